"""Limit the requests of each key a minute, over all workers of a service and all machines of a gallery."""

import math
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qaconv.serving.state_folder import WorkersLock

MINUTE_S = 60
COUNTED = 4096  # keys that are counted; a further one takes the place of that which was silent for the longest time
COUNTS = np.dtype([("key", "S64"), ("minute", "<i8"), ("count", "<i4"), ("before", "<i4")])


class Allowed(NamedTuple):
    """How many requests may be answered, and seconds until there may be more."""

    requests: int
    wait_s: int


class RequestLimit:
    """Counts the requests of all workers together, in a file that they have in memory.

    Those of the minute before count by the share of it that the last 60 seconds overlap. The file has its whole size
    from the beginning, so that a full disk stops no request.

    Args:
        path: of the file, made by `write_counts`.
        lock: of the workers.
        per_minute: largest number for each key.
    """

    def __init__(self, path: Path, lock: WorkersLock, per_minute: int) -> None:
        self.per_minute = per_minute
        self._counts = np.memmap(path, COUNTS, "r+")
        self._lock = lock

    def take(self, key: str, wanted: int = 1) -> Allowed:
        """Count some requests of a key, up to as many as are allowed."""
        digest = sha256(key.encode()).hexdigest().encode()
        with self._lock:
            minute, second = divmod(time.time(), MINUTE_S)
            rows = np.flatnonzero(self._counts["key"] == digest)
            row = rows[0] if len(rows) else self._counts["minute"].argmin()
            _, last, count, before = self._counts[row].tolist() if len(rows) else (digest, 0, 0, 0)
            if last != minute:
                count, before = 0, count if last == minute - 1 else 0
            left = math.floor(self.per_minute - before * (1 - second / MINUTE_S) - count)
            allowed = max(0, min(wanted, left))
            self._counts[row] = digest, minute, count + allowed, before
        return Allowed(allowed, math.ceil(MINUTE_S - second))

    async def wait_s(self, key: str) -> int | None:
        """Count a request of a key. Return None if it is allowed, else seconds until another one may be."""
        allowed = self.take(key)
        return None if allowed.requests else allowed.wait_s


def write_counts(path: Path) -> None:
    """Write a file of no requests."""
    path.write_bytes(bytes(COUNTED * COUNTS.itemsize))
    path.chmod(0o600)
