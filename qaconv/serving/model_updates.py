"""The registry's champion goes in; a folder with its files, and the service answering by it, comes out.

The version in charge is kept beside the galleries, so that a restart needs no registry.
"""

import json
import logging
import shutil
import threading
from pathlib import Path

from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.registry import download_served, find_release
from qaconv.runtime.model import ServedModel
from qaconv.serving.service import Service

log = logging.getLogger(__name__)

THREADS = 1  # of one inference: as many run side by side as there are cores


class Champions:
    """The versions kept in a folder, and which is in charge.

    Args:
        name: of the registered model.
        folder: where they are kept.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def in_charge(self) -> tuple[str, ServedModel]:
        """The version that was in charge when the service ended; the first time, the registry's champion.

        Raises:
            InputError: there is no champion.
        """
        if self._pointer.is_file():
            version = str(json.loads(self._pointer.read_text(encoding="utf-8"))["version"])
            return version, ServedModel(self.folder / version, threads=THREADS)
        champion = find_release(self.name, "champion")
        if champion is None:
            raise InputError(f"{self.name}: has no champion; `make demo` registers one")
        model = self._fetch(champion.version)
        write_json(self._pointer, {"version": champion.version})
        return champion.version, model

    def follow(self, service: Service) -> bool:
        """Puts the registry's champion in charge if it is another; says whether it was."""
        champion, before = find_release(self.name, "champion"), service.in_charge.version
        if champion is None or champion.version == before:
            return False
        model = self._fetch(champion.version)
        log.info("version %s is the champion now; version %s answers until it is ready", champion.version, before)
        service.take_up(champion.version, model)
        write_json(self._pointer, {"version": champion.version})
        service.records.forget_other_encoders(model.encoder_digest)
        shutil.rmtree(self.folder / before, ignore_errors=True)
        return True

    @property
    def _pointer(self) -> Path:
        return self.folder / "in_charge.json"

    def _fetch(self, version: str) -> ServedModel:
        folder = self.folder / version
        if not folder.is_dir():
            with replacing_folder(folder) as beside:
                download_served(self.name, version, beside)
        return ServedModel(folder, threads=THREADS)


class Housekeeping:
    """A thread that follows the champion and deletes what has expired, until it is stopped."""

    def __init__(self, champions: Champions, service: Service, every_s: float) -> None:
        self._champions, self._service, self._every_s = champions, service, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while True:
            try:
                self._service.delete_expired()
                self._champions.follow(self._service)
            except Exception:  # a registry that is away comes back; the present version answers meanwhile
                log.exception("housekeeping failed; it is tried again in %g s", self._every_s)
            if self._stopped.wait(self._every_s):
                return
