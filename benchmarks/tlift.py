"""Temporal lifting at Market-1501's size, and of one new query, beside the paper's loops."""

import time
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Cost, Row, measure
from qaconv.tlift import temporal_lift

QUERIES, GALLERY, CAMERAS, SPAN_S = 3368, 15_913, 6, 18_000.0
PLAIN_QUERIES = 100  # that the loops are timed on; the rest takes as long each


def rows() -> Iterator[Row]:
    """The whole query set, then its first query alone."""
    rng = np.random.default_rng(0)
    scores = rng.random((QUERIES, GALLERY)) ** 8
    where = (rng.integers(CAMERAS, size=QUERIES), rng.random(QUERIES) * SPAN_S)
    there = (rng.integers(CAMERAS, size=GALLERY), rng.random(GALLERY) * SPAN_S)
    start = time.perf_counter()
    plain = _plain_lift(scores, *where, *there, queries=PLAIN_QUERIES)
    seconds = (time.perf_counter() - start) * QUERIES / PLAIN_QUERIES
    lifted = temporal_lift(scores, *where, *there)
    apart = float(np.abs(lifted[:PLAIN_QUERIES] - plain).max())
    note = f"loops timed on {PLAIN_QUERIES} queries; apart by {apart:.0e}"
    ours = measure(partial(temporal_lift, scores, *where, *there))
    yield Row(f"TLift, {QUERIES:,} x {GALLERY:,}", Cost(seconds, 0), ours, items=QUERIES, note=note)
    one = (scores[:1], where[0][:1], where[1][:1])
    yield Row(f"TLift, one query x {GALLERY:,}", None, measure(partial(temporal_lift, *one, *there)), items=1)


def _plain_lift(
    scores: NDArray, query_camids: NDArray, query_times: NDArray, camids: NDArray, times: NDArray, *, queries: int
) -> NDArray:
    """The paper's words, a query and a camera at a time."""
    lifted = np.empty((queries, scores.shape[1]))
    for query in range(queries):
        near = np.flatnonzero((query_camids == query_camids[query]) & (np.abs(query_times - query_times[query]) < 100))
        for camid in range(CAMERAS):
            seen = np.flatnonzero(camids == camid)
            candidates = scores[np.ix_(near, seen)]
            threshold = np.sort(candidates, axis=None)[-10]
            pivots = times[seen[np.nonzero(candidates >= threshold)[1]]]
            weight = np.exp(-((times[seen, None] - pivots) ** 2) / 200.0**2).mean(axis=1)
            lifted[query, seen] = (weight + 0.2) * scores[query, seen]
    return lifted
