"""Let all workers of a service, or its one process, change to another version at once.

The worker that does the housekeeping encodes what is stored, and announces the version. Each worker loads it next to
the present one, and says so. Then one file names the version: from there on every worker answers each request with it.
A worker that was not ready, as it had just been started again, loads it first.
"""

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from qaconv.files import file_version, write_json
from qaconv.runtime.model import ServedModel
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.service import Service
from qaconv.serving.versions import Versions

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 600.0  # for all workers to load a version
POLL_S = 0.1


class _Loaded(NamedTuple):
    """A version that does not answer yet, and the name of its folder."""

    folder: str
    version: ActiveVersion


class VersionSwitch:
    """One worker's part in the changes of version. Safe to use from any thread.

    Args:
        versions: those in the state folder, and where the next one comes from.
        service: this worker's.
        folder: name of the folder of the version that it has loaded.
        worker: number of this worker, from 0.
        workers: number of all workers.
    """

    def __init__(self, versions: Versions, service: Service, folder: str, worker: int, workers: int) -> None:
        self._versions = versions
        self._service = service
        self._folder = folder
        self._workers = workers
        self._worker = worker
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self._seen: tuple[int, ...] | None = None  # version of the file that names the active version
        self._next: _Loaded | None = None
        service.take_over = self.take_over

    def take_over(self) -> None:
        """Let the version answer that is active now, if that is another one."""
        if file_version(self._versions.pointer) == self._seen:
            return
        with self._lock:
            seen = file_version(self._versions.pointer)
            if seen == self._seen:
                return
            version, folder = self._versions.active
            if folder != self._folder:
                if self._next is None or self._next.folder != folder:
                    model = self._versions.load(folder)
                    loaded = self._service.load(version, model, self._service.last_sighting())
                    self._next = _Loaded(folder, loaded)
                self._service.switch(self._next.version)
                self._folder = folder
                self._next = None
            self._seen = seen

    def prepare(self, model: ServedModel | None = None) -> None:
        """Load the version that was announced, and say that it is loaded.

        Args:
            model: that version's, where it is loaded. Default: load it.
        """
        with self._preparing:
            announced = _read(self._announcement)
            if announced is None or announced["folder"] == self._folder:
                return
            folder = str(announced["folder"])
            loaded = self._next
            if loaded is None or loaded.folder != folder:
                model = model or self._versions.load(folder)
                version = self._service.load(str(announced["version"]), model, int(announced["until"]))
                self._next = loaded = _Loaded(folder, version)
            loaded.version.changes.forget_deleted()
            if not self._is_ready(self._worker, folder):
                write_json(self._ready(self._worker), {"folder": folder})

    def follow(self) -> bool:
        """Activate the next version in all workers if there is one; one worker at a time may call it.

        Returns:
            Whether there was one.
        """
        if (fetched := self._versions.fetch_next()) is None:
            return False
        _, before = self._versions.active
        folder, model = fetched.folder, fetched.model
        until = self._service.encode_for(model)
        for worker in range(self._workers):
            self._ready(worker).unlink(missing_ok=True)
        write_json(self._announcement, {"folder": folder, "version": fetched.version, "until": until})
        self.prepare(model)
        self._wait_for_workers(folder)
        with self._service.changing:
            self._service.encode_rest(model, until)
            self._versions.activate(fetched)
        self.take_over()
        self._announcement.unlink()
        self._service.indexing.keep_only(model)
        self._service.records.forget_other_encoders(model.encoder_digest)
        self._versions.forget(before)
        return True

    def _wait_for_workers(self, folder: str) -> None:
        """Wait until all workers have loaded a version; those that have not after LONGEST_WAIT_S load it later."""
        until = time.monotonic() + LONGEST_WAIT_S
        while late := [worker for worker in range(self._workers) if not self._is_ready(worker, folder)]:
            if time.monotonic() > until:
                log.warning("workers %s have not loaded %s yet; their requests wait for it", late, folder)
                return
            time.sleep(POLL_S)

    def _is_ready(self, worker: int, folder: str) -> bool:
        return _read(self._ready(worker)) == {"folder": folder}

    def _ready(self, worker: int) -> Path:
        return self._versions.folder / f"ready-{worker}.json"

    @property
    def _announcement(self) -> Path:
        return self._versions.folder / "next.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a file; None where it is missing."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
