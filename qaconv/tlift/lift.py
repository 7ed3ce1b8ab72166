"""Temporal lifting (Liao and Shao, ECCV 2020): scores and times go in; lifted scores come out.

Whoever passes one camera together passes the next one together too: the best matches of a query's companions say
when to look for the query itself. Q queries, G gallery images, K pivots.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def temporal_lift(
    scores: ArrayLike,
    query_camids: ArrayLike,
    query_times: ArrayLike,
    gallery_camids: ArrayLike,
    gallery_times: ArrayLike,
    *,
    tau: float = 100,
    sigma: float = 200,
    top_k: int = 10,
    alpha: float = 0.2,
) -> NDArray[np.float64]:
    """Lifted scores [Q, G]: (weight + alpha) * score, the weight in [0, 1] from each gallery camera's pivots.

    Times are compared within one camera only, so a constant offset of a camera's clock changes nothing.

    Args:
        scores: [Q, G] in [0, 1], with a mean of about 0.01 to 0.1.
        query_camids: [Q]; a camera that the gallery lacks is fine.
        query_times: [Q], seconds.
        gallery_camids: [G].
        gallery_times: [G], seconds.
        tau: queries on one camera less than this many seconds apart are neighbours.
        sigma: seconds; a gallery image this far from a pivot is given weight 1/e by it.
        top_k: K; images whose score ties with the K-th are pivots too.
        alpha: what appearance counts where time gives no support.

    Raises:
        ValueError: shapes do not fit, or a score or time is not a number.
    """
    score_table = np.asarray(scores, dtype=np.float64)
    query_camids, query_times = np.asarray(query_camids), np.asarray(query_times, dtype=np.float64)
    gallery_camids, gallery_times = np.asarray(gallery_camids), np.asarray(gallery_times, dtype=np.float64)
    _check(score_table, query_camids, query_times, gallery_camids, gallery_times)

    weight = np.zeros_like(score_table)
    for gallery_camid in np.unique(gallery_camids):
        seen = np.flatnonzero(gallery_camids == gallery_camid)
        apart = gallery_times[seen, None] - gallery_times[seen]
        closeness = np.exp(-((apart / sigma) ** 2))
        for query_camid in np.unique(query_camids):
            asked = np.flatnonzero(query_camids == query_camid)
            pivots = _pivot_counts(score_table[np.ix_(asked, seen)], query_times[asked], tau, top_k)
            weight[np.ix_(asked, seen)] = pivots @ closeness / pivots.sum(axis=1, keepdims=True)
    return (weight + alpha) * score_table


def _pivot_counts(
    scores: NDArray[np.float64], times: NDArray[np.float64], tau: float, top_k: int
) -> NDArray[np.float64]:
    """How many neighbours of each query name each gallery image as a pivot, on one pair of cameras.

    Args:
        scores: [q, g].
        times: [q], seconds.
    """
    best = -np.partition(-scores, min(top_k, scores.shape[1]) - 1, axis=1)[:, :top_k]
    counts = np.empty_like(scores)
    for query, neighbours in enumerate(np.abs(times[:, None] - times) < tau):
        candidates = best[neighbours].ravel()
        threshold = np.partition(candidates, -min(top_k, len(candidates)))[-min(top_k, len(candidates))]
        counts[query] = (scores[neighbours] >= threshold).sum(axis=0)
    return counts


def _check(
    scores: NDArray, query_camids: NDArray, query_times: NDArray, gallery_camids: NDArray, gallery_times: NDArray
) -> None:
    queries, galleries = len(query_camids), len(gallery_camids)
    if scores.shape != (queries, galleries) or len(query_times) != queries or len(gallery_times) != galleries:
        raise ValueError(
            f"scores have shape {scores.shape}, for {queries} query camids, {len(query_times)} query times, "
            f"{galleries} gallery camids and {len(gallery_times)} gallery times"
        )
    for name, values in (("scores", scores), ("query_times", query_times), ("gallery_times", gallery_times)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} are not finite numbers")
