"""One target's sightings in memory: maps of queries go in; the best sightings of each come out.

G sightings, Q queries, C channels, h x w map size.

A search first compares rows: each map averaged over its width to h vectors, matched as QAConv matches locations. The
best of that, a shortlist, are matched in full; docs/serving.md says what that costs in accuracy.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.model import ServedModel
from qaconv.serving.storage import Sighting

ROWS_TILE = 512  # sightings whose rows are compared at a time: h x h cosines of each stay in a core's cache


@dataclass(frozen=True)
class Filter:
    """Which sightings count; None is any. Times are on the sighting camera's clock."""

    camids: frozenset[int] | None = None
    from_s: float | None = None
    to_s: float | None = None


@dataclass(frozen=True)
class Candidates:
    """The shortlist of one query, in no order."""

    ids: NDArray[np.int64]  # [K]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]  # seconds, NaN where unknown
    logits: NDArray[np.float32]


def sighting_bytes(shape: tuple[int, int, int]) -> int:
    """What a sighting with a map of `shape` (C, h, w) takes in memory."""
    channels, height, width = shape
    return 2 * channels * height * width + 4 * channels * height + 24


class Gallery:
    """Up to `capacity` sightings; memory is used as they come, and no more than `sighting_bytes` each."""

    def __init__(self, capacity: int, shape: tuple[int, int, int]) -> None:
        channels, height, _ = shape
        self._lock = threading.Lock()
        self._size = 0
        # Of memory that is only promised; a page is taken when it is first written to.
        self._ids = np.empty(capacity, dtype=np.int64)
        self._camids = np.empty(capacity, dtype=np.int64)
        self._times = np.empty(capacity, dtype=np.float64)
        self._maps = np.empty((capacity, *shape), dtype=np.float16)
        self._rows = np.empty((capacity, height, channels), dtype=np.float32)

    def __len__(self) -> int:
        return self._size

    def add(self, sightings: Sequence[Sighting], maps: NDArray) -> None:
        """Adds sightings with maps [n, C, h, w]; the caller keeps to the capacity."""
        rows = _rows(maps)
        with self._lock:
            new = slice(self._size, self._size + len(sightings))
            self._ids[new] = [sighting.id for sighting in sightings]
            self._camids[new] = [sighting.camid for sighting in sightings]
            self._times[new] = [np.nan if (time := sighting.time_s) is None else time for sighting in sightings]
            self._maps[new] = maps
            self._rows[new] = rows
            self._size = new.stop

    def remove(self, ids: Sequence[int]) -> None:
        """Removes sightings and overwrites what they left; those it lacks are passed over."""
        with self._lock:
            for at in sorted(np.flatnonzero(np.isin(self._ids[: self._size], ids)), reverse=True):
                last = self._size - 1
                for column in (self._ids, self._camids, self._times, self._maps, self._rows):
                    column[at] = column[last]
                    column[last] = 0
                self._size = last

    def cameras(self) -> dict[int, int]:
        """How many sightings each camera has."""
        with self._lock:
            found, counts = np.unique(self._camids[: self._size], return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def search(self, model: ServedModel, query_map: NDArray[np.float32], only: Filter, shortlist: int) -> Candidates:
        """Matches a map [C, h, w] in full with the `shortlist` best by rows."""
        with self._lock:
            at = self._matching(only)
            if len(at) > shortlist:
                coarse = self._coarse(_rows(query_map[None])[0], model.head)[at]
                at = at[np.argpartition(-coarse, shortlist)[:shortlist]]
            ids, camids, times, maps = self._ids[at], self._camids[at], self._times[at], self._maps[at]
        return Candidates(ids, camids, times, model.score(query_map[None], maps)[0])

    def _matching(self, only: Filter) -> NDArray[np.intp]:
        keep = np.ones(self._size, dtype=bool)
        times = self._times[: self._size]
        if only.camids is not None:
            keep &= np.isin(self._camids[: self._size], list(only.camids))
        if only.from_s is not None:
            keep &= times >= only.from_s
        if only.to_s is not None:
            keep &= times <= only.to_s
        return np.flatnonzero(keep)

    def _coarse(self, query: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
        """Rows [h, C] against those of all sightings: scores [G] that sort much as logits do."""
        height = len(query)
        of_query, of_gallery = (weights.reshape(height, -1).sum(axis=1) for weights in (head.query, head.gallery))
        scores = np.empty(self._size, dtype=np.float32)
        for start in range(0, self._size, ROWS_TILE):
            tile = self._rows[start : min(start + ROWS_TILE, self._size)]
            # [gallery row, query row, sighting]: sightings stand last, so that a maximum is one of long vectors.
            cosines = query @ tile.transpose(1, 2, 0)
            scores[start : start + len(tile)] = of_query @ cosines.max(axis=0) + of_gallery @ cosines.max(axis=1)
        return scores


def _rows(maps: NDArray) -> NDArray[np.float32]:
    """Maps [n, C, h, w] to the unit vectors of their rows [n, h, C]."""
    width = np.ones(maps.shape[3], dtype=np.float32)  # a product sums so short an axis several times as fast as sum()
    rows = (maps.astype(np.float32) @ width).transpose(0, 2, 1)
    return rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
