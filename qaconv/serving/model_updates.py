"""Follow the registry's champion, or that of one site.

The active version is kept next to the galleries, so that a restart needs no registry.
"""

import json
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.registry import Release, download_served, find_champion, find_holder
from qaconv.runtime.model import ServedModel
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.service import Service

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
        return self.pointer.is_file() and self._read_pointer()["site"] == self.site

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
        self.activate(champion)
        return champion.version, model

    def follow(self, service: Service) -> bool:
        """Activate the registry's champion if it is not active yet; return whether it was not."""
        if (fetched := self.fetch_champion()) is None:
            return False
        champion, model = fetched
        _, before = self.active
        service.load_version(champion.version, model)
        self.activate(champion)
        service.records.forget_other_encoders(model.encoder_digest)
        self.forget(before)
        return True

    def fetch_champion(self) -> tuple[Release, ServedModel] | None:
        """Load the registry's champion; None if it is active already."""
        champion = find_holder(self.name, "champion", self.site) or find_holder(self.name, "champion", None)
        before = self._read_pointer()
        if champion is None or folder_name(champion) == before["folder"]:
            return None
        model = self._fetch(champion)
        log.info(
            "version %s is the new champion; version %s answers until it is ready", champion.version, before["version"]
        )
        return champion, model

    def activate(self, release: Release) -> None:
        """Let a version be active from now on, also after a restart."""
        write_json(self.pointer, {"version": release.version, "folder": folder_name(release), "site": self.site})

    def load(self, folder: str) -> ServedModel:
        """Load a version by the name of its folder."""
        return self._load(self.folder / folder)

    def forget(self, folder: str) -> None:
        """Delete the folder of a version that is not active."""
        shutil.rmtree(self.folder / folder, ignore_errors=True)

    @property
    def active(self) -> tuple[str, str]:
        """The active version, and the name of its folder."""
        pointer = self._read_pointer()
        return str(pointer["version"]), str(pointer["folder"])

    @property
    def pointer(self) -> Path:
        """File that names the active version."""
        return self.folder / "in_charge.json"  # the name in existing folders

    def _read_pointer(self) -> dict[str, str | None]:
        """Return version, folder and site. The folder was the version's number before 0.2.0, and there was no site."""
        pointer = json.loads(self.pointer.read_text(encoding="utf-8"))
        return {"folder": pointer["version"], "site": None, **pointer}

    def _load(self, folder: Path) -> ServedModel:
        return ServedModel(folder, threads=THREADS, target=self.site)

    def _fetch(self, release: Release) -> ServedModel:
        """Load a release from its folder, which exists only once the release has loaded."""
        folder = self.folder / folder_name(release)
        if folder.is_dir():
            return self._load(folder)
        with replacing_folder(folder) as unfinished:
            download_served(release, unfinished)
            try:
                return self._load(unfinished)
            except InputError as error:
                raise InputError(f"{release} cannot be served: {error}") from error


def folder_name(release: Release) -> str:
    """Return a name that no other release has: version numbers begin at 1 in every registry, runs have random ids."""
    return f"{release.version}-{release.run_id}"


class Housekeeping:
    """A thread that follows the champion, deletes expired sightings and starts updates of identities, until stopped.

    Of several workers one does it.

    Args:
        service: to update.
        follow: activates the champion if it is not active yet.
        every_s: pause between two rounds, in seconds.
    """

    def __init__(self, service: Service, follow: Callable[[], object], every_s: float) -> None:
        self._service = service
        self._follow = follow
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
                if self._service.does_housekeeping:
                    self._service.delete_expired()
                    self._service.identities.updates.start_wanted()
                    self._follow()
            except (InputError, DiskFull, Busy) as error:
                log.error("%s; the present version answers, next try in %g s", error, self._every_s)
            except Exception:  # the registry may return; the present version answers meanwhile
                log.exception("housekeeping failed; next try in %g s", self._every_s)
            if self._stopped.wait(self._every_s):
                return
