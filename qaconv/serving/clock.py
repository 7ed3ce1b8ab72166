"""Tell the time of enrolment and retention, by a clock that does not jump with the system's."""

import logging
import time

log = logging.getLogger(__name__)

JUMP_S = 86_400.0  # largest difference that is followed at once
DOUBT_S = 86_400.0  # how long a larger one must last


class Clock:
    """Seconds since 1970: the system's, unless they are more than JUMP_S from those that this clock has counted.

    After such a jump it counts on by itself, so that a wrong time neither deletes sightings nor dates them. A jump that
    lasts for DOUBT_S of running time is followed.

    Args:
        last_s: the time when the service last ran. Default: the system's.
    """

    def __init__(self, last_s: float | None) -> None:
        self._time_s = time.time() if last_s is None else last_s
        self._read_s = time.monotonic()
        self._doubted_s: float | None = None  # since when, in monotonic seconds

    def now(self) -> float:
        """Return the time."""
        system_s = time.time()
        monotonic_s = time.monotonic()
        counted_s = self._time_s + monotonic_s - self._read_s
        if abs(system_s - counted_s) > JUMP_S:
            if self._doubted_s is None:
                self._doubted_s = monotonic_s
                log.error(
                    "the system's clock is %.1f days from the last time that was known; retention follows it in %g "
                    "hours, so correct it until then if it is wrong",
                    (system_s - counted_s) / 86_400, DOUBT_S / 3600,
                )  # fmt: skip
            if monotonic_s - self._doubted_s < DOUBT_S:
                return counted_s
        self._time_s = system_s
        self._read_s = monotonic_s
        self._doubted_s = None
        return system_s
