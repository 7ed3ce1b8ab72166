"""Limit the requests of each key a minute, in one process or over all workers of a service."""

import math
import time
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from qaconv.serving.state_folder import WorkersLock

MINUTE_S = 60
COUNTED = 4096  # keys that are counted; a further one takes the place of that which was silent for the longest time
COUNTS = np.dtype([("key", "S64"), ("minute", "<i8"), ("count", "<i4"), ("before", "<i4")])


class RequestLimit(Protocol):
    """Counts requests."""

    def wait_s(self, key: str) -> int | None:
        """Count a request of a key. Return None if it is allowed, else seconds until another one may be."""


class ProcessLimit:
    """Counts the requests of one process.

    Args:
        per_minute: largest number for each key.
    """

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def wait_s(self, key: str) -> int | None:
        """Count a request of a key; see RequestLimit."""
        if self._limiter.hit(self._limit, key):
            return None
        return max(1, round(self._limiter.get_window_stats(self._limit, key).reset_time - time.time()))


class WorkersLimit:
    """Counts the requests of all workers together, in a file that they have in memory.

    As in ProcessLimit, those of the minute before count by the share of it that the last 60 seconds overlap. The file
    has its whole size from the beginning, so that a full disk stops no request.

    Args:
        path: of the file, made by `write_counts`.
        lock: of the workers.
        per_minute: largest number for each key.
    """

    def __init__(self, path: Path, lock: WorkersLock, per_minute: int) -> None:
        self._counts = np.memmap(path, COUNTS, "r+")
        self._lock = lock
        self._per_minute = per_minute

    def wait_s(self, key: str) -> int | None:
        """Count a request of a key; see RequestLimit."""
        digest = sha256(key.encode()).hexdigest().encode()
        with self._lock:
            minute, second = divmod(time.time(), MINUTE_S)
            rows = np.flatnonzero(self._counts["key"] == digest)
            row = rows[0] if len(rows) else self._counts["minute"].argmin()
            _, last, count, before = self._counts[row].tolist() if len(rows) else (digest, 0, 0, 0)
            if last != minute:
                count, before = 0, count if last == minute - 1 else 0
            is_allowed = before * (1 - second / MINUTE_S) + count + 1 <= self._per_minute
            self._counts[row] = digest, minute, count + is_allowed, before
        return None if is_allowed else math.ceil(MINUTE_S - second)


def write_counts(path: Path) -> None:
    """Write a file of no requests."""
    path.write_bytes(bytes(COUNTED * COUNTS.itemsize))
    path.chmod(0o600)
