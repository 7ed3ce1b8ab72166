"""Threads that keep the galleries' vectors up to date, and measure shortlists in idle time."""

import logging
import threading
from collections.abc import Callable

from qaconv.errors import InputError
from qaconv.serving.service import Service
from qaconv.serving.storage import Busy, DiskFull

log = logging.getLogger(__name__)
EVERY_S = 1.0
RETRY_S = 30.0


class IndexKeeper:
    """The threads, each of which repeats one thing.

    Args:
        service: whose galleries.
    """

    def __init__(self, service: Service) -> None:
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(call,), name=name, daemon=True)
            for name, call in (("index", service.update_index), ("recall", service.measure_recall))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End each thread after what it does at present."""
        self._stopped.set()

    def _repeat(self, call: Callable[[], None]) -> None:
        wait_s = EVERY_S
        while not self._stopped.wait(wait_s):
            wait_s = EVERY_S
            try:
                call()
            except (InputError, DiskFull, Busy) as error:
                wait_s = RETRY_S
                log.error("%s; new sightings are matched in full meanwhile, next try in %g s", error, wait_s)
            except Exception:
                wait_s = RETRY_S
                log.exception("the index is not updated; next try in %g s", wait_s)
