"""Search one target's sightings: an index in memory, and maps on disk.

G sightings, K candidates, n crops of a query, C channels, h x w map size, S = h*w locations.

A search ranks all sightings by estimates from landmarks (`runtime/shortlist.py`) and matches the best, a shortlist, in
full, in 8 bits. A sighting that has no vector yet, as it is new, is matched in full in addition. Of a query of n crops
the best score of any crop ranks: the shortlist is the best of the crops' shortlists together.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.locations import as_locations
from qaconv.runtime.matcher import Matcher
from qaconv.runtime.quantise import quantise
from qaconv.runtime.shortlist import LANDMARKS, Landmarks
from qaconv.runtime.vectors import Vectors, inner_products
from qaconv.serving.map_cache import MapCache
from qaconv.serving.storage import Sighting
from qaconv.tlift.probability import GallerySize

Ids = Sequence[int] | NDArray[np.int64]

AT_ONCE = 4096  # maps that a search has in memory at a time
ATTEMPTS = 3  # to rank while no sighting is deleted; then deletions wait
# Of the index: a vector with its scale, twice while landmarks are chosen again, and the other columns.
SIGHTING_BYTES = 2 * (LANDMARKS + 4) + 48


class Model(Protocol):
    """The part of `ServedModel` that a gallery is searched with."""

    @property
    def matcher(self) -> Matcher: ...


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


class Gallery:
    """Up to `capacity` sightings, each of which takes up to SIGHTING_BYTES of memory once it is added.

    Args:
        capacity: largest number of sightings.
        maps: the maps of the sightings, and of other galleries.

    Attributes:
        maps: the maps.
        landmark_set: number of the present set of landmarks, 0 before the first.
    """

    def __init__(self, capacity: int, maps: MapCache) -> None:
        self.maps = maps
        self._lock = threading.Lock()
        self._size = 0
        self._moves = 0  # beginnings and ends of changes of rows that were there before
        self.landmark_set = 0
        self._landmarks: Landmarks | None = None
        self._landmark_ids = np.empty(0, dtype=np.int64)
        # The system gives a page of these when it is first written to.
        self._ids = np.empty(capacity, dtype=np.int64)
        self._camids = np.empty(capacity, dtype=np.int64)
        self._cameras = np.empty(capacity, dtype=np.object_)
        self._tracks = np.empty(capacity, dtype=np.object_)
        self._times = np.empty(capacity, dtype=np.float64)
        self._has_vector = np.empty(capacity, dtype=bool)
        self._vectors = _empty_vectors(capacity)

    def __len__(self) -> int:
        return self._size

    @property
    def landmarks(self) -> Landmarks | None:
        """The present landmarks, without those that were deleted; None where all sightings are matched in full."""
        return self._landmarks

    def ids(self, only: Filter = Filter()) -> NDArray[np.int64]:
        """Return the ids of the sightings that a filter keeps."""
        with self._lock:
            selected: NDArray[np.int64] = self._ids[: self._size][self._select(only, self._size)]
            return selected

    def camids(self) -> set[int]:
        """Return the cameras that have sightings."""
        with self._lock:
            return set(np.unique(self._camids[: self._size]).tolist())

    def size(self) -> GallerySize:
        """Return the number of sightings and the span of their times."""
        with self._lock:
            return GallerySize.measure(self._times[: self._size])

    def add(self, sightings: Sequence[Sighting]) -> None:
        """Add sightings whose maps are on disk. The caller keeps to the capacity."""
        with self._lock:
            new = slice(self._size, self._size + len(sightings))
            self._ids[new] = [sighting.id for sighting in sightings]
            self._camids[new] = [sighting.camid for sighting in sightings]
            self._cameras[new] = [sighting.camera for sighting in sightings]
            self._tracks[new] = [sighting.track for sighting in sightings]
            self._times[new] = [np.nan if (time := sighting.time_s) is None else time for sighting in sightings]
            self._has_vector[new] = False
            self._size = new.stop

    def remove(self, ids: Sequence[int]) -> None:
        """Remove sightings and overwrite their memory; skip ids that are not in the gallery."""
        columns = (self._ids, self._camids, self._cameras, self._tracks, self._times, self._has_vector, *self._vectors)
        with self._moving():
            for row in sorted(np.flatnonzero(np.isin(self._ids[: self._size], ids)), reverse=True):
                last = self._size - 1
                for column in columns:
                    column[row] = column[last]
                    column[last] = 0
                self._size = last
            positions = np.flatnonzero(np.isin(self._landmark_ids, ids))
            if len(positions) and self._landmarks is not None:
                self._landmark_ids[positions] = 0
                self._landmarks = self._landmarks.without(positions)
        self.maps.remove(ids)

    def without_vector(self, limit: int) -> list[int]:
        """Return ids of up to `limit` sightings that have no vector of the present landmarks."""
        with self._lock:
            rows = np.flatnonzero(~self._has_vector[: self._size])[:limit]
            return [int(sighting) for sighting in self._ids[rows]]

    def count_without_vector(self) -> int:
        """Count the sightings that have no vector of the present landmarks."""
        size = self._size
        return size - int(np.count_nonzero(self._has_vector[:size]))

    def add_vectors(self, number: int, ids: Ids, vectors: Vectors) -> None:
        """Add vectors of a set of landmarks, if it is the present one; skip sightings that were deleted.

        Args:
            number: of the set.
            ids: sightings, in ascending order.
            vectors: of these sightings.
        """
        with self._lock:
            if number == self.landmark_set:
                self._set_vectors(np.asarray(ids, dtype=np.int64), vectors)

    def use_landmarks(
        self, number: int, landmarks: Landmarks, landmark_ids: Sequence[int], ids: Ids, vectors: Vectors
    ) -> None:
        """Rank by other landmarks from now on.

        Args:
            number: of this set of landmarks.
            landmarks: the landmarks.
            landmark_ids: sighting at each position of a vector, 0 where it was deleted.
            ids: sightings that have a vector, in ascending order.
            vectors: of these sightings.
        """
        with self._moving():
            self.landmark_set = number
            self._landmarks = landmarks
            self._landmark_ids = np.array(landmark_ids, dtype=np.int64)
            self._has_vector[: self._size] = False
            self._set_vectors(np.asarray(ids, dtype=np.int64), vectors)

    def search(self, model: Model, query_maps: NDArray[np.float32], only: Filter, shortlist: int) -> Candidates:
        """Match the maps [n, C, h, w] of a query in full with the `shortlist` sightings that estimates rank best."""
        crops = model.matcher.prepare(quantise(as_locations(query_maps, threads=1), threads=1))
        ids, *others, searched = self._choose(crops, only, shortlist)
        positions, logits = [], []
        for first in range(0, max(1, len(ids)), AT_ONCE):
            kept, maps = self.maps.take(ids[first : first + AT_ONCE].tolist())
            positions.append(first + kept)
            logits.append(model.matcher.table(crops, maps))
        rows = np.concatenate(positions)
        camids, cameras, tracks, times = (column[rows] for column in others)
        return Candidates(ids[rows], camids, cameras, tracks, times, np.concatenate(logits, axis=1), searched)

    def _choose(self, crops: Any, only: Filter, shortlist: int) -> tuple[Any, ...]:
        """Return ids, cameras, their names, tracks and times of a shortlist, and the gallery's size."""
        for _ in range(ATTEMPTS):  # without the lock, so that searches run at the same time
            moves = self._moves
            rows = self._rank(crops, only, shortlist)
            with self._lock:
                if moves == self._moves:
                    return self._columns(rows)
        with self._lock:
            return self._columns(self._rank(crops, only, shortlist))

    def _columns(self, rows: NDArray[np.intp]) -> tuple[Any, ...]:
        columns = (self._ids, self._camids, self._cameras, self._tracks, self._times)
        return (*(column[rows] for column in columns), GallerySize.measure(self._times[: self._size]))

    def _rank(self, crops: Any, only: Filter, shortlist: int) -> NDArray[np.intp]:
        """Return the rows of the best `shortlist` sightings by estimates, and of those without a vector."""
        size, landmarks = self._size, self._landmarks
        rows = self._select(only, size)
        if len(rows) <= shortlist or landmarks is None:
            return rows
        vectors = Vectors(self._vectors.codes[:size], self._vectors.scales[:size])
        best = np.max([inner_products(crop, vectors, threads=1) for crop in landmarks.describe(crops)], axis=0)
        is_new = ~self._has_vector[:size]
        best[is_new] = np.inf
        scores = best if len(rows) == size else best[rows]
        count = shortlist + int(np.count_nonzero(is_new[rows] if len(rows) < size else is_new))
        return rows if len(rows) <= count else rows[np.argpartition(-scores, count)[:count]]

    def _select(self, only: Filter, size: int) -> NDArray[np.intp]:
        """Return the rows, of the first `size`, of the sightings that the filter keeps."""
        keep = np.ones(size, dtype=bool)
        times = self._times[:size]
        if only.camids is not None:
            keep &= np.isin(self._camids[:size], list(only.camids))
        if only.from_s is not None:
            keep &= times >= only.from_s
        if only.to_s is not None:
            keep &= times <= only.to_s
        return np.flatnonzero(keep)

    def _set_vectors(self, ids: NDArray[np.int64], vectors: Vectors) -> None:
        """Give the sightings among the ascending `ids` their vectors."""
        if not len(ids):
            return
        positions = np.searchsorted(ids, self._ids[: self._size]).clip(max=len(ids) - 1)
        rows = np.flatnonzero(ids[positions] == self._ids[: self._size])
        self._vectors.codes[rows] = vectors.codes[positions[rows]]
        self._vectors.scales[rows] = vectors.scales[positions[rows]]
        self._has_vector[rows] = True

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Change rows that were there before: a search that ranks meanwhile begins again."""
        with self._lock:
            self._moves += 1
            try:
                yield
            finally:
                self._moves += 1


def _empty_vectors(count: int) -> Vectors:
    """Return vectors without values; the system gives their memory when it is first written to."""
    return Vectors(np.empty((count, LANDMARKS), dtype=np.int8), np.empty(count, dtype=np.float32))
