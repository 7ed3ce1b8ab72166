"""Follow the registry's champion, or that of one site, and do what is to be done every few seconds."""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.registry import Release, download_served, find_champion, find_holder
from qaconv.runtime.model import ServedModel
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.service import Service
from qaconv.serving.versions import Fetched, Versions

log = logging.getLogger(__name__)


class Champions(Versions):
    """The versions that were champions.

    Args:
        name: name of the registered model.
        folder: folder of the versions.
        site: the one target to serve, with its own champion if it has one. Default: all targets.
    """

    def __init__(self, name: str, folder: Path, site: str | None = None) -> None:
        super().__init__(folder)
        self.name = name
        self._site = site

    @property
    def have_active_version(self) -> bool:
        """Whether a version was active when the service ended, so that it starts without the registry."""
        return super().have_active_version and self.site == self._site

    def active_version(self) -> tuple[str, ServedModel]:
        """Load the version that was active when the service ended; the first time, the registry's champion.

        Raises:
            InputError: there is no champion, or the version's files are damaged.
        """
        if self.have_active_version:
            return super().active_version()
        fetched = self._fetch(find_champion(self.name, self._site))
        self.activate(fetched)
        return fetched.version, fetched.model

    def fetch_next(self) -> Fetched | None:
        """Load the registry's champion; None if it is active already."""
        champion = find_holder(self.name, "champion", self._site) or find_holder(self.name, "champion", None)
        before, folder = self.active
        if champion is None or folder_name(champion) == folder:
            return None
        fetched = self._fetch(champion)
        log.info("version %s is the new champion; version %s answers until it is ready", champion.version, before)
        return fetched

    def _fetch(self, release: Release) -> Fetched:
        """Load a release from its folder, which exists only once the release has loaded."""
        name = folder_name(release)
        folder = self.folder / name
        if folder.is_dir():
            model = self.load_from(folder, self._site)
        else:
            with replacing_folder(folder) as unfinished:
                download_served(release, unfinished)
                try:
                    model = self.load_from(unfinished, self._site)
                except InputError as error:
                    raise InputError(f"{release} cannot be served: {error}") from error
        return Fetched(release.version, name, self._site, model)


def folder_name(release: Release) -> str:
    """Return a name that no other release has: version numbers begin at 1 in every registry, runs have random ids."""
    return f"{release.version}-{release.run_id}"


class Housekeeping:
    """A thread that does some work again and again, until stopped. Of several workers one does it.

    Args:
        service: asked whether this worker is the one.
        calls: the work.
        every_s: pause between two rounds, in seconds.
    """

    def __init__(self, service: Service, calls: Sequence[Callable[[], object]], every_s: float) -> None:
        self._service = service
        self._calls = calls
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
                    for call in self._calls:
                        call()
            except (InputError, DiskFull, Busy) as error:
                log.error("%s; the present version answers, next try in %g s", error, self._every_s)
            except Exception:  # the registry may return; the present version answers meanwhile
                log.exception("housekeeping failed; next try in %g s", self._every_s)
            if self._stopped.wait(self._every_s):
                return
