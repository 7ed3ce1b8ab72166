"""Keep the maps that were used last in memory, and read the others from disk. S locations, C channels, n maps."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.quantise import Codes

Read = Callable[[Sequence[int]], tuple[list[int], Codes]]


def map_bytes(shape: tuple[int, int, int]) -> int:
    """Return the memory of a map of `shape` (C, h, w)."""
    channels, height, width = shape
    return (channels + 2) * height * width


class MapCache:
    """Up to `size` maps, by sighting. Safe to use from any thread.

    Args:
        size: largest number of maps, at least one.
        shape: (C, h, w) of a map.
        read: returns the ids, of those it is given, that have a map on disk, and their maps.

    Attributes:
        read: reads maps without keeping them.
    """

    def __init__(self, size: int, shape: tuple[int, int, int], read: Read) -> None:
        channels, height, width = shape
        self._lock = threading.Lock()
        self.read = read
        self._deletions = 0
        self._slots: OrderedDict[int, int] = OrderedDict()  # of each sighting, the one used longest ago first
        self._free: list[int] = []
        self._size = size
        self._used = 0
        # The system gives a page of these when it is first written to.
        self._codes = np.empty((size, height * width, channels), dtype=np.int8)
        self._scales = np.empty((size, height * width), dtype=np.float16)

    def take(self, ids: Sequence[int]) -> tuple[NDArray[np.intp], Codes]:
        """Return the positions in `ids` of the sightings that have a map, and their maps [n, S, C].

        A sighting has none if it was deleted meanwhile.
        """
        codes = np.empty((len(ids), *self._codes.shape[1:]), dtype=np.int8)
        scales = np.empty((len(ids), *self._scales.shape[1:]), dtype=np.float16)
        has_map = np.zeros(len(ids), dtype=bool)
        with self._lock:
            deletions = self._deletions
            slots = [self._slots.get(sighting, -1) for sighting in ids]
            for sighting, slot in zip(ids, slots, strict=True):
                if slot >= 0:
                    self._slots.move_to_end(sighting)
            positions = np.flatnonzero(np.array(slots, dtype=np.intp) >= 0)
            rows = np.array(slots, dtype=np.intp)[positions]
            codes[positions], scales[positions] = self._codes[rows], self._scales[rows]
            has_map[positions] = True
        if missing := [position for position, slot in enumerate(slots) if slot < 0]:
            position_of = {ids[position]: position for position in missing}
            stored, maps = self.read(list(position_of))
            positions = np.array([position_of[sighting] for sighting in stored], dtype=np.intp)
            codes[positions], scales[positions] = maps.codes, maps.scales
            has_map[positions] = True
            self._put(stored, maps, deletions)
        if has_map.all():
            return np.arange(len(ids)), Codes(codes, scales)
        positions = np.flatnonzero(has_map)
        return positions, Codes(codes[positions], scales[positions])

    def put(self, ids: Sequence[int], maps: Codes) -> None:
        """Keep the maps of new sightings."""
        self._put(ids, maps, None)

    def remove(self, ids: Sequence[int]) -> None:
        """Overwrite the maps of sightings; those that are being read from disk are not kept."""
        with self._lock:
            self._deletions += 1
            for sighting in ids:
                if (slot := self._slots.pop(sighting, None)) is not None:
                    self._codes[slot] = 0
                    self._scales[slot] = 0
                    self._free.append(slot)

    def _put(self, ids: Sequence[int], maps: Codes, deletions: int | None) -> None:
        """Keep maps, unless a sighting was deleted since `deletions` of them: it may be one of these."""
        with self._lock:
            if deletions not in (None, self._deletions):
                return
            for sighting, codes, scales in zip(ids, maps.codes, maps.scales, strict=True):
                slot = self._slots.pop(sighting, None)
                if slot is None:
                    slot = self._find_slot()
                self._slots[sighting] = slot
                self._codes[slot] = codes
                self._scales[slot] = scales

    def _find_slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._used < self._size:
            self._used += 1
            return self._used - 1
        return self._slots.popitem(last=False)[1]
