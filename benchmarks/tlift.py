"""Time temporal lifting at Market-1501's size and for one new query, against plain loops."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import memory_bandwidth
from benchmarks.table import Bound, Cost, Row, compare, measure
from qaconv.tlift import temporal_lift

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUERIES, GALLERY, CAMERAS, SPAN_S = 3368, 15_913, 6, 18_000.0
PLAIN_QUERIES = 100  # of the plain loops; the others take as long each
ONE_TURNS = 21  # of a single query


def rows() -> Iterator[Row]:
    """Time the whole query set, then its first query alone."""
    rng = np.random.default_rng(0)
    scores = rng.random((QUERIES, GALLERY)) ** 8
    where = (rng.integers(CAMERAS, size=QUERIES), rng.random(QUERIES) * SPAN_S)
    there = (rng.integers(CAMERAS, size=GALLERY), rng.random(GALLERY) * SPAN_S)
    plain = partial(_plain_lift, scores, *where, *there, queries=PLAIN_QUERIES)
    apart = float(np.abs(temporal_lift(scores, *where, *there)[:PLAIN_QUERIES] - plain()).max())
    some = measure(plain)
    whole = Cost(some.seconds * QUERIES / PLAIN_QUERIES, some.peak_bytes)
    rate = memory_bandwidth()
    row = compare(
        f"TLift, {QUERIES:,} x {GALLERY:,}",
        None,
        partial(temporal_lift, scores, *where, *there),
        bound=Bound(f"memory at {rate / 1e9:.0f} GB/s", 2 * scores.nbytes / rate),
        items=QUERIES,
        note=f"loops timed on {PLAIN_QUERIES} queries; apart by {apart:.0e}",
    )
    yield replace(row, plain=whole)
    one = (scores[:1], where[0][:1], where[1][:1])
    row = compare(
        f"TLift, one query x {GALLERY:,}",
        None,
        lambda: [temporal_lift(*one, *there) for _ in range(ONE_TURNS)],
        items=1,
        note=f"one of {ONE_TURNS} in a row, as in a service",
    )
    yield replace(row, ours=replace(row.ours, seconds=row.ours.seconds / ONE_TURNS))


def _plain_lift(
    scores: Floats, query_camids: Ints, query_times: Floats, camids: Ints, times: Floats, *, queries: int
) -> Floats:
    """Lift by the paper's formula, one query and camera at a time."""
    lifted = np.empty((queries, scores.shape[1]))
    for query in range(queries):
        near = np.flatnonzero((query_camids == query_camids[query]) & (np.abs(query_times - query_times[query]) < 100))
        for camid in range(CAMERAS):
            columns = np.flatnonzero(camids == camid)
            candidates = scores[np.ix_(near, columns)]
            threshold = np.sort(candidates, axis=None)[-10]
            pivots = times[columns[np.nonzero(candidates >= threshold)[1]]]
            weight = np.exp(-((times[columns, None] - pivots) ** 2) / 200.0**2).mean(axis=1)
            lifted[query, columns] = (weight + 0.2) * scores[query, columns]
    return lifted
