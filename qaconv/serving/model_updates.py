"""Follow the registry's champion, or that of one site.

The active version is kept next to the galleries, so that a restart needs no registry.
"""

import json
import logging
import shutil
import threading
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.registry import Release, download_served, find_champion, find_holder
from qaconv.runtime.model import ServedModel
from qaconv.serving.service import Service
from qaconv.serving.storage import Busy, DiskFull

log = logging.getLogger(__name__)

THREADS = 1  # of one run of a graph, as the service runs one for each core


class Champions:
    """The versions in a folder, and the active one.

    Args:
        name: name of the registered model.
        folder: folder of the versions.
        site: the one target to serve, with its own champion if it has one. Default: all targets.
    """

    def __init__(self, name: str, folder: Path, site: str | None = None) -> None:
        self.name = name
        self.folder = folder
        self.site = site

    @property
    def have_active_version(self) -> bool:
        """Whether a version was active when the service ended, so that it starts without the registry."""
        return self._pointer.is_file() and self._read_pointer()["site"] == self.site

    def active_version(self) -> tuple[str, ServedModel]:
        """Load the version that was active when the service ended; the first time, the registry's champion.

        Raises:
            InputError: there is no champion, or the version's files are damaged.
        """
        if self.have_active_version:
            pointer = self._read_pointer()
            try:
                return str(pointer["version"]), self._load(self.folder / str(pointer["folder"]))
            except InputError as error:
                raise InputError(f"{error}; delete {self.folder} to load the champion again") from error
        champion = find_champion(self.name, self.site)
        model = self._fetch(champion)
        self._write_pointer(champion)
        return champion.version, model

    def follow(self, service: Service) -> bool:
        """Activate the registry's champion if it is not active yet; return whether it was not."""
        champion = find_holder(self.name, "champion", self.site) or find_holder(self.name, "champion", None)
        before = self._read_pointer()
        if champion is None or _folder_name(champion) == before["folder"]:
            return False
        model = self._fetch(champion)
        log.info(
            "version %s is the new champion; version %s answers until it is ready", champion.version, before["version"]
        )
        service.load_version(champion.version, model)
        self._write_pointer(champion)
        service.records.forget_other_encoders(model.encoder_digest)
        shutil.rmtree(self.folder / str(before["folder"]), ignore_errors=True)
        return True

    @property
    def _pointer(self) -> Path:
        return self.folder / "in_charge.json"  # the name in existing folders

    def _read_pointer(self) -> dict[str, str | None]:
        """Return version, folder and site. The folder was the version's number before 0.2.0, and there was no site."""
        pointer = json.loads(self._pointer.read_text(encoding="utf-8"))
        return {"folder": pointer["version"], "site": None, **pointer}

    def _write_pointer(self, release: Release) -> None:
        active = {"version": release.version, "folder": _folder_name(release), "site": self.site}
        write_json(self._pointer, active)

    def _load(self, folder: Path) -> ServedModel:
        return ServedModel(folder, threads=THREADS, target=self.site)

    def _fetch(self, release: Release) -> ServedModel:
        """Load a release from its folder, which exists only once the release has loaded."""
        folder = self.folder / _folder_name(release)
        if folder.is_dir():
            return self._load(folder)
        with replacing_folder(folder) as unfinished:
            download_served(release, unfinished)
            try:
                return self._load(unfinished)
            except InputError as error:
                raise InputError(f"{release} cannot be served: {error}") from error


def _folder_name(release: Release) -> str:
    """Return a name that no other release has: version numbers begin at 1 in every registry, runs have random ids."""
    return f"{release.version}-{release.run_id}"


class Housekeeping:
    """A thread that follows the champion, deletes expired sightings and starts updates of identities, until stopped.

    Args:
        champions: the versions.
        service: to update.
        every_s: pause between two rounds, in seconds.
    """

    def __init__(self, champions: Champions, service: Service, every_s: float) -> None:
        self._champions = champions
        self._service = service
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present round."""
        self._stopped.set()

    def _run(self) -> None:
        while True:
            try:
                self._service.delete_expired()
                self._service.identities.updates.start_wanted()
                self._champions.follow(self._service)
            except (InputError, DiskFull, Busy) as error:
                log.error("%s; the present version answers, next try in %g s", error, self._every_s)
            except Exception:  # the registry may return; the present version answers meanwhile
                log.exception("housekeeping failed; next try in %g s", self._every_s)
            if self._stopped.wait(self._every_s):
                return
