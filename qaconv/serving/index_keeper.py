"""A thread that keeps the galleries' vectors up to date, and measures shortlists in idle time."""

import logging
import threading

from qaconv.errors import InputError
from qaconv.serving.service import Service
from qaconv.serving.storage import Busy, DiskFull

log = logging.getLogger(__name__)
EVERY_S = 1.0
RETRY_S = 30.0


class IndexKeeper:
    """The thread.

    Args:
        service: whose galleries.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its present batch."""
        self._stopped.set()

    def _run(self) -> None:
        wait_s = EVERY_S
        while not self._stopped.wait(wait_s):
            wait_s = EVERY_S
            try:
                self._service.update_index()
            except (InputError, DiskFull, Busy) as error:
                wait_s = RETRY_S
                log.error("%s; new sightings are matched in full meanwhile, next try in %g s", error, wait_s)
            except Exception:
                wait_s = RETRY_S
                log.exception("the index is not updated; next try in %g s", wait_s)
