"""Time metrics at Market-1501's size, 3,368 queries and 15,913 gallery images, after checking that both ways agree."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import memory_bandwidth
from benchmarks.table import Bound, Row, compare
from qaconv.metrics import evaluate_ranking, evaluate_verification, mean_with_interval

QUERIES, GALLERY, PEOPLE, CAMERAS = 3368, 15913, 750, 6
GAIN = 3.0  # deviations that a match scores higher
RATES = (1e-2, 1e-3, 1e-4)
SEED = 7


class Scored(NamedTuple):
    """Simulated scores [Q, G] and who was seen where."""

    scores: NDArray[np.float32]
    query_pids: NDArray[np.int64]
    gallery_pids: NDArray[np.int64]
    query_camids: NDArray[np.int64]
    gallery_camids: NDArray[np.int64]


def rows() -> Iterator[Row]:
    """Compare ranking, decisions and intervals with plain loops."""
    data = _simulate()
    once = f"one reading of the scores at {memory_bandwidth() / 1e9:.0f} GB/s"
    bound = Bound(once, data.scores.nbytes / memory_bandwidth())

    plain_ap, plain_first = plain_ranking(data)
    ours = evaluate_ranking(*data)
    np.testing.assert_allclose(ours.average_precisions, plain_ap, rtol=1e-12)
    np.testing.assert_array_equal(ours.first_ranks, plain_first)
    yield compare(
        "CMC, mAP, mINP",
        partial(plain_ranking, data),
        partial(evaluate_ranking, *data),
        turns=1,
        bound=bound,
        items=QUERIES,
        note=f"equal for each query; mAP {ours.mean_average_precision:.4f}",
    )

    thresholds, right = plain_verification(data)
    decided = evaluate_verification(*data, false_match_rates=RATES)
    assert (decided.thresholds, decided.true_match_rates) == (thresholds, right)
    yield compare(
        "ROC and thresholds",
        partial(plain_verification, data),
        partial(evaluate_verification, *data, false_match_rates=RATES),
        turns=1,
        bound=bound,
        items=data.scores.size,
        note="equal; plain is all pairs sorted at once",
    )

    values = ours.average_precisions
    yield compare(
        "1,000 draws of queries",
        partial(plain_interval, values),
        partial(mean_with_interval, values, seed=SEED),
        turns=1,
        note="other draws of the same law",
    )


def plain_ranking(data: Scored) -> tuple[list[float], list[float]]:
    """Return average precision and first rank of each query, one gallery image after another."""
    precisions, first = [], []
    for query, row in enumerate(data.scores):
        hits = []
        for image in np.lexsort((data.gallery_pids == data.query_pids[query], -row)):  # of equal ones the wrong first
            same = data.gallery_pids[image] == data.query_pids[query]
            if data.gallery_pids[image] == -1 or (same and data.gallery_camids[image] == data.query_camids[query]):
                continue
            hits.append(same)
        ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
        precisions.append(float(np.mean([nth / rank for nth, rank in enumerate(ranks, start=1)])) if ranks else np.nan)
        first.append(ranks[0] if ranks else np.nan)
    return precisions, first


def plain_verification(data: Scored) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return threshold and true match rate for each of RATES, from sorted lists of all pairs."""
    same = data.query_pids[:, None] == data.gallery_pids
    usable = np.broadcast_to(data.gallery_pids != -1, same.shape)
    across = data.query_camids[:, None] != data.gallery_camids
    matches, others = np.sort(data.scores[same & across & usable]), np.sort(data.scores[~same & usable])
    thresholds = tuple(float(others[-1 - int(rate * len(others))]) for rate in RATES)
    return thresholds, tuple(float((matches > threshold).mean()) for threshold in thresholds)


def plain_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the interval of the mean, one draw after another."""
    rng, counted = np.random.default_rng(SEED), values[~np.isnan(values)].tolist()
    means = []
    for _ in range(1000):
        picks = rng.integers(len(counted), size=len(counted))
        means.append(sum(counted[pick] for pick in picks) / len(counted))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _simulate() -> Scored:
    """Simulate people on random cameras; a fifth of the gallery is junk, and matches score GAIN higher."""
    rng = np.random.default_rng(SEED)
    query_pids, gallery_pids = rng.integers(PEOPLE, size=QUERIES), rng.integers(PEOPLE, size=GALLERY)
    gallery_pids[rng.random(GALLERY) < 0.2] = -1
    scores = rng.standard_normal((QUERIES, GALLERY), dtype=np.float32)
    scores += np.float32(GAIN) * (query_pids[:, None] == gallery_pids)
    return Scored(
        scores, query_pids, gallery_pids, rng.integers(CAMERAS, size=QUERIES), rng.integers(CAMERAS, size=GALLERY)
    )
