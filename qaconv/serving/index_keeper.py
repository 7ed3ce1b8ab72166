"""Threads that keep what is in memory up to date, and measure shortlists in idle time."""

import logging
import threading
from collections.abc import Callable, Mapping

from qaconv.errors import InputError
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.service import Service

log = logging.getLogger(__name__)
EVERY_S = 1.0
RETRY_S = 30.0


class IndexKeeper:
    """The threads, each of which repeats one thing.

    Args:
        service: whose galleries.
        more: calls to repeat in further threads, by the names of these.
    """

    def __init__(self, service: Service, more: Mapping[str, Callable[[], None]]) -> None:
        self._stopped = threading.Event()
        calls = {"index": service.update_index, "recall": service.measure_recall, **more}
        self._threads = [
            threading.Thread(target=self._repeat, args=(call,), name=name, daemon=True) for name, call in calls.items()
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
                log.error("%s; next try in %g s", error, wait_s)
            except Exception:
                wait_s = RETRY_S
                log.exception("work in the background failed; next try in %g s", wait_s)
