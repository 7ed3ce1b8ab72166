"""A follower and its leader in one process, whose requests go from one application to the other without a network."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.serving import database
from qaconv.serving.app import create_app
from qaconv.serving.replication.client import LeaderClient, Unreachable
from qaconv.serving.replication.follower import Follower, LeaderVersions, OutOfDate, begin_following
from qaconv.serving.replication.link import write_link
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.version_switch import VersionSwitch
from qaconv.serving.versions import Fetched, Versions
from tests.small_service import SETTINGS, crop, enrol, find, small_model, switch_version

TABLE = "SELECT sightings.*, map FROM sightings LEFT JOIN codes ON sighting = id ORDER BY id"


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


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "leader")
    yield machine
    machine.records.close()


@pytest.fixture
def copy(tmp_path: Path, leader: Machine) -> Iterator[Copy]:
    follower = Copy(tmp_path / "copy", leader)
    yield follower
    follower.records.close()


def table(records: Records) -> list[tuple[Any, ...]]:
    return records.query(TABLE)


def test_a_follower_finds_what_the_leader_enrolled_under_its_ids_and_nothing_that_it_deleted(
    leader: Machine, copy: Copy
) -> None:
    ids = enrol(leader.service, 5, person="ada")
    copy.follower.catch_up()
    assert find(copy.service, 0) == find(leader.service, 0) and sorted(find(copy.service, 0)) == ids
    assert table(copy.records) == table(leader.records)
    leader.service.delete(ids[1:3])
    ids += enrol(leader.service, 2, first=50)
    copy.follower.catch_up()
    assert sorted(find(copy.service, 0, top_k=9)) == [ids[0], *ids[3:]]
    assert table(copy.records) == table(leader.records)
    assert crop(1)[20:] not in b"".join(path.read_bytes() for path in copy.folder.glob("galleries.db*"))


Actions = st.lists(
    st.one_of(
        st.tuples(st.just("enrol"), st.integers(1, 4)),
        st.tuples(st.just("delete"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["catch up", "read some", "restart copy", "restart leader", "switch"]), st.just(0)),
        st.tuples(st.just("cut after"), st.integers(0, 3)),
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=Actions)
def test_after_any_enrolments_deletions_pauses_and_restarts_the_copy_equals_the_leaders_table(
    actions: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("machines")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("qaconv.serving.replication.leader.MOST_ROWS", 16)
        leader = Machine(folder / "leader")
        stack.callback(lambda: leader.records.close())
        copy = Copy(folder / "copy", leader)
        stack.callback(lambda: copy.records.close())
        # So few deletions are listed that a copy misses some of them.
        leader.records._connection.executescript(
            "DROP TRIGGER list_deletion;" + database.LIST_DELETIONS.replace(str(database.KEPT), "3")
        )
        seed = 0
        for action, value in actions:
            if action == "enrol":
                enrol(leader.service, 8 * value, first=seed)
                seed += 100
            elif action == "delete":
                leader.service.delete(leader.service.records.ids("mall")[: value // 4])
            elif action == "switch":
                leader.switch(f"{2 + seed}")
                seed += 1
            elif action == "restart leader":
                leader.restart()
            elif action == "restart copy":
                copy.restart()
            elif action == "read some":
                copy.follower.read_some(float("inf"))
            elif action == "catch up":
                copy.follower.catch_up()
            elif action == "cut after":
                cut_after(copy, value)
        copy.follower.catch_up()
        copy.switch.follow()
        assert table(copy.records) == table(leader.records)
        shown = [service.active.galleries["mall"].ids().tolist() for service in (copy.service, leader.service)]
        assert sorted(shown[0]) == sorted(shown[1]) == leader.records.ids("mall")
        assert copy.service.active.version == leader.service.active.version and not copy.ended


def cut_after(copy: Copy, count: int) -> None:
    """Read changes until the link is cut, in the middle of what takes several requests."""
    stream, left = copy._stream, [count]

    def counting(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise httpx.ReadTimeout("cut off")
        return stream(*arguments, **named)

    client = copy.follower._client
    client._client = SimpleNamespace(stream=counting)  # type: ignore[assignment]
    try:
        copy.follower.catch_up()
        copy.switch.follow()
    except (OutOfDate, Unreachable):
        pass
    finally:
        client._client = SimpleNamespace(stream=stream)  # type: ignore[assignment]
