"""A follower and its leader in one process, whose requests go from one application to the other without a network."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi.testclient import TestClient

from qaconv.serving.app import create_app
from qaconv.serving.replication.client import LeaderClient
from qaconv.serving.replication.follower import Follower, LeaderVersions, begin_following
from qaconv.serving.replication.link import write_link
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.version_switch import VersionSwitch
from qaconv.serving.versions import Fetched, Versions
from tests.small_service import SETTINGS, small_model, switch_version


class Machine:
    """The leader: its folder, its service and a client of its application, which can be cut off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_cut = False
        self.start()

    def start(self) -> None:
        self.records = Records(self.folder / "state")
        versions = Versions(self.folder / "state/models")
        if not versions.have_active_version:
            model = small_model(versions.folder / "1-one", "one")
            versions.activate(Fetched("1", "1-one", None, model))
        self.service = Service(self.records, SETTINGS, *versions.active_version())
        self.web = TestClient(create_app(self.service, None, 10_000, "127.0.0.1"), base_url="http://127.0.0.1")

    def restart(self) -> None:
        self.records.close()
        self.start()

    def switch(self, version: str) -> None:
        """Answer with a version that has another encoder."""
        versions = Versions(self.folder / "state/models")
        folder = f"{version}-run"
        model = small_model(versions.folder / folder, version)
        switch_version(self.service, version, model)
        versions.activate(Fetched(version, folder, None, model))
        self.records.forget_other_encoders(model.encoder_digest)


class Copy:
    """A follower of a machine."""

    def __init__(self, folder: Path, leader: Machine) -> None:
        self.folder = folder
        self.leader = leader
        self.ended = 0
        self.start()

    def start(self) -> None:
        self.records = Records(self.folder)
        write_link(self.folder)
        client = LeaderClient("http://127.0.0.1")
        client._client = SimpleNamespace(stream=self._stream)  # type: ignore[assignment]
        versions = LeaderVersions(self.folder / "models", client)
        begin_following(self.records, client, versions)
        self.service = Service(self.records, SETTINGS, *versions.active_version())
        self.switch = VersionSwitch(versions, self.service, versions.active[1], 0, 1)
        self.follower = Follower(self.service, client, versions, self._end)

    def restart(self) -> None:
        self.records.close()
        self.start()

    def _end(self) -> None:
        self.ended += 1

    def _stream(self, method: str, path: str, params: Any) -> Any:
        if self.leader.is_cut:
            raise httpx.ConnectError("cut off")
        return self.leader.web.stream(method, f"/replication{path}", params=params)
