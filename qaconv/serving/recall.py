"""Measure how many of the best matches shortlists hold, on a sample of the searches, in idle time.

The recalls are stored in `galleries.db`, so that they are those of all workers.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.storage import Records
from qaconv.serving.stored_maps import quantise_maps

TOP = 10
KEPT = 200  # samples of a target that the mean is of
BLOCK = 256  # sightings matched between two pauses
SHARE = 0.02  # of the time that may be spent on samples


@dataclass(frozen=True)
class Sample:
    """A search that is to be done exactly.

    Attributes:
        model: the version that searched.
        gallery: what it searched.
        only: its filter.
        query_maps: of its crops, [n, C, h, w].
    """

    model: ServedModel
    gallery: Gallery
    only: Filter
    query_maps: NDArray[np.float32]


class RecallSamples:
    """The last samples of each target. Safe to use from any thread.

    Args:
        records: where they are stored.
        shortlist: sightings that a query is matched with in full.
        pause: called between two blocks with the seconds that the last one took; waits while others need the CPU.
    """

    def __init__(self, records: Records, shortlist: int, pause: Callable[[float], None]) -> None:
        self._records = records
        self._shortlist = shortlist
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting: dict[str, Sample] = {}
        self._due_s: dict[str, float] = {}

    def offer(self, target: str, sample: Sample) -> None:
        """Keep a search until `measure`, if the target's next sample is due and landmarks ranked."""
        with self._lock:
            is_due = time.monotonic() >= self._due_s.get(target, 0.0)
            if is_due and target not in self._waiting and sample.gallery.landmarks is not None:
                self._waiting[target] = sample

    def measure(self, galleries: Callable[[], Mapping[str, Gallery]]) -> None:
        """Do the samples exactly.

        Args:
            galleries: returns the present galleries; samples of others are given up.
        """
        with self._lock:
            waiting = dict(self._waiting)
        for target, sample in waiting.items():
            began = time.monotonic()
            recall = self._measure(sample, lambda target=target: galleries().get(target))  # type: ignore[misc]
            with self._lock:
                del self._waiting[target]
                self._due_s[target] = time.monotonic() + (time.monotonic() - began) / SHARE
            if recall is not None:
                self._keep(target, recall)

    def means(self) -> dict[str, tuple[float, int]]:
        """Return the mean recall of each target that has samples, in [0, 1], and the number of samples."""
        rows = self._records.read("SELECT target, avg(recall), count(*) FROM recalls GROUP BY target")
        return {target: (mean, count) for target, mean, count in rows}

    def _keep(self, target: str, recall: float) -> None:
        """Store a recall in the place of the oldest of KEPT."""
        with self._records.transaction() as connection:
            connection.execute("INSERT INTO recalls (target, recall) VALUES (?, ?)", (target, recall))
            connection.execute(
                "DELETE FROM recalls WHERE target = ?1 AND number NOT IN "
                "(SELECT number FROM recalls WHERE target = ?1 ORDER BY number DESC LIMIT ?2)",
                (target, KEPT),
            )

    def _measure(self, sample: Sample, present: Callable[[], Gallery | None]) -> float | None:
        """Return the share of the exact TOP that a shortlist holds; None if there is none, or the gallery changed."""
        gallery, matcher = sample.gallery, sample.model.matcher
        prepared = matcher.prepare(quantise_maps(sample.query_maps))
        listed = gallery.search(sample.model, sample.query_maps, sample.only, self._shortlist).ids
        ids, scores = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        searched = gallery.ids(sample.only)
        for start in range(0, len(searched), BLOCK):
            if present() is not gallery:
                return None
            began = time.perf_counter()
            block, maps = gallery.maps.read(searched[start : start + BLOCK].tolist())
            ids = np.concatenate([ids, block])
            scores = np.concatenate([scores, matcher.table(prepared, maps).max(axis=0)])
            best = np.argsort(-scores)[:TOP]
            ids, scores = ids[best], scores[best]
            self._pause(time.perf_counter() - began)
        return float(np.isin(ids, listed).mean()) if len(ids) else None
