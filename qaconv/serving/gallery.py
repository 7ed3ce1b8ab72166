"""Search one target's sightings in memory.

G sightings, K candidates, n crops of a query, C channels, h x w map size, S = h*w locations.

A search ranks all sightings by row averages (`runtime/shortlist.py`) and matches the best, a shortlist, in full.
docs/serving.md says how many of the best matches the shortlist holds. Of a query of n crops the best score of any crop
ranks: the shortlist is the best of the crops' shortlists together, and each crop costs as much as a query of its own.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.locations import as_locations
from qaconv.runtime.matcher import Matcher
from qaconv.runtime.shortlist import RowScorer, average_rows
from qaconv.serving.storage import Sighting
from qaconv.tlift.probability import GallerySize


class Model(Protocol):
    """The part of `ServedModel` that a gallery is searched with."""

    @property
    def matcher(self) -> Matcher: ...

    @property
    def row_scorer(self) -> RowScorer: ...


@dataclass(frozen=True)
class Filter:
    """The sightings to search.

    Attributes:
        camids: cameras. Default: all.
        from_s: earliest time on the sighting camera's clock. Default: any.
        to_s: latest time. Default: any.
    """

    camids: frozenset[int] | None = None
    from_s: float | None = None
    to_s: float | None = None


@dataclass(frozen=True)
class Candidates:
    """The shortlist of one query, in no order.

    Attributes:
        ids: [K].
        camids: [K].
        cameras: names, None where cameras are numbers, [K].
        tracks: names, None where there is none, [K].
        times: seconds, NaN where unknown, [K].
        logits: of full matching, [n, K].
        searched: all sightings of the gallery, those that the filter leaves out included.
    """

    ids: NDArray[np.int64]
    camids: NDArray[np.int64]
    cameras: NDArray[np.object_]
    tracks: NDArray[np.object_]
    times: NDArray[np.float64]
    logits: NDArray[np.float32]
    searched: GallerySize


def sighting_bytes(shape: tuple[int, int, int]) -> int:
    """Return the memory of a sighting with a map of `shape` (C, h, w)."""
    channels, height, width = shape
    return 2 * channels * height * width + 4 * channels * height + 40


class Gallery:
    """Up to `capacity` sightings, each of which takes `sighting_bytes` of memory once it is added.

    Args:
        capacity: largest number of sightings.
        shape: (C, h, w) of a map.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int]) -> None:
        channels, height, self._width = shape
        self._lock = threading.Lock()
        self._size = 0
        # The system gives a page of these when it is first written to.
        self._ids = np.empty(capacity, dtype=np.int64)
        self._camids = np.empty(capacity, dtype=np.int64)
        self._cameras = np.empty(capacity, dtype=np.object_)
        self._tracks = np.empty(capacity, dtype=np.object_)
        self._times = np.empty(capacity, dtype=np.float64)
        self._maps = np.empty((capacity, height * self._width, channels), dtype=np.float16)
        self._rows = np.empty((capacity, height, channels), dtype=np.float32)

    def __len__(self) -> int:
        return self._size

    def camids(self) -> set[int]:
        """Return the cameras that have sightings."""
        with self._lock:
            return set(np.unique(self._camids[: self._size]).tolist())

    def size(self) -> GallerySize:
        """Return the number of sightings and the span of their times."""
        with self._lock:
            return GallerySize.measure(self._times[: self._size])

    def add(self, sightings: Sequence[Sighting], maps: NDArray[Any]) -> None:
        """Add sightings with maps [n, C, h, w]. The caller keeps to the capacity."""
        locations = as_locations(maps, threads=1)
        rows = average_rows(locations, self._width)
        with self._lock:
            new = slice(self._size, self._size + len(sightings))
            self._ids[new] = [sighting.id for sighting in sightings]
            self._camids[new] = [sighting.camid for sighting in sightings]
            self._cameras[new] = [sighting.camera for sighting in sightings]
            self._tracks[new] = [sighting.track for sighting in sightings]
            self._times[new] = [np.nan if (time := sighting.time_s) is None else time for sighting in sightings]
            self._maps[new] = locations
            self._rows[new] = rows
            self._size = new.stop

    def remove(self, ids: Sequence[int]) -> None:
        """Remove sightings and overwrite their memory; skip ids that are not in the gallery."""
        columns = (self._ids, self._camids, self._cameras, self._tracks, self._times, self._maps, self._rows)
        with self._lock:
            for row in sorted(np.flatnonzero(np.isin(self._ids[: self._size], ids)), reverse=True):
                last = self._size - 1
                for column in columns:
                    column[row] = column[last]
                    column[last] = 0
                self._size = last

    def search(self, model: Model, query_maps: NDArray[np.float32], only: Filter, shortlist: int) -> Candidates:
        """Match the maps [n, C, h, w] of a query in full with the `shortlist` sightings that row averages rank best."""
        crops = as_locations(query_maps, threads=1)
        with self._lock:
            rows = self._select(only)
            if len(rows) > shortlist:
                best_of_crops = model.row_scorer.score(crops, self._rows[: self._size]).max(axis=0)
                rows = rows[np.argpartition(-best_of_crops[rows], shortlist)[:shortlist]]
            ids, camids, times, maps = self._ids[rows], self._camids[rows], self._times[rows], self._maps[rows]
            cameras, tracks = self._cameras[rows], self._tracks[rows]
            searched = GallerySize.measure(self._times[: self._size])
        logits = model.matcher.table(model.matcher.prepare(crops), maps)
        return Candidates(ids, camids, cameras, tracks, times, logits, searched)

    def _select(self, only: Filter) -> NDArray[np.intp]:
        """Return the rows of the sightings that the filter keeps."""
        keep = np.ones(self._size, dtype=bool)
        times = self._times[: self._size]
        if only.camids is not None:
            keep &= np.isin(self._camids[: self._size], list(only.camids))
        if only.from_s is not None:
            keep &= times >= only.from_s
        if only.to_s is not None:
            keep &= times <= only.to_s
        return np.flatnonzero(keep)
