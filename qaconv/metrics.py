"""Scores and who was really seen go in; CMC, mAP and mINP come out.

Q queries, G gallery images. The protocol is Market-1501's (Zheng et al., ICCV 2015): gallery images of the query's
own person and camera do not count, junk (pid -1) leaves the gallery, and queries without a true match do not count.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.manifest import JUNK

BLOCK_QUERIES = 256  # ranked at a time, so that memory does not grow with Q


@dataclass(frozen=True)
class RankingMetrics:
    """How well queries find their person; every figure in [0, 1].

    Attributes:
        cmc: [G], the share of queries with a true match among the first k + 1; cmc[0] is rank-1.
        mean_average_precision: mean over queries of the precision at each true match.
        mean_inverse_negative_penalty: mean over queries of true matches / rank of the last one (Ye et al., TPAMI 2021).
        average_precisions: [Q], NaN for queries without a true match.
        queries: how many counted.
    """

    cmc: NDArray[np.float64]
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    average_precisions: NDArray[np.float64]
    queries: int


def evaluate_ranking(
    scores: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
) -> RankingMetrics:
    """Ranks the gallery for each query by `scores` [Q, G], higher first.

    Among equal scores wrong images come first, so that the result does not depend on the gallery's order.

    Raises:
        ValueError: shapes do not fit, a score is not a number, or no query has a true match.
    """
    score_table = np.asarray(scores)
    query_pids, gallery_pids = np.asarray(query_pids), np.asarray(gallery_pids)
    query_camids, gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
    _check(score_table, query_pids, gallery_pids, query_camids, gallery_camids)

    usable = gallery_pids != JUNK
    score_table, gallery_pids, gallery_camids = score_table[:, usable], gallery_pids[usable], gallery_camids[usable]
    first = np.zeros(score_table.shape[1])
    precisions, penalties = np.full(len(query_pids), np.nan), np.full(len(query_pids), np.nan)
    for start in range(0, len(query_pids), BLOCK_QUERIES):
        block = slice(start, start + BLOCK_QUERIES)
        match = query_pids[block, None] == gallery_pids
        counts = ~(match & (query_camids[block, None] == gallery_camids))
        ranked = _ranked(score_table[block], match, counts)
        found = ranked.cumsum(axis=1)
        ranks = np.arange(1, ranked.shape[1] + 1)
        total = found[:, -1]
        answered = np.flatnonzero(total)
        np.add.at(first, ranked[answered].argmax(axis=1), 1)
        precisions[start + answered] = ((found / ranks * ranked).sum(axis=1)[answered]) / total[answered]
        penalties[start + answered] = total[answered] / (ranks * ranked).max(axis=1)[answered]
    queries = int(first.sum())
    if not queries:
        raise ValueError("no query has a true match in the gallery on another camera")
    return RankingMetrics(
        first.cumsum() / queries, float(np.nanmean(precisions)), float(np.nanmean(penalties)), precisions, queries
    )


def _ranked(scores: NDArray, match: NDArray[np.bool_], counts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[q, G]: whether the image at each rank is a true match; those that do not count stand last, as wrong."""
    key = np.where(counts, scores, -np.inf)
    order = np.lexsort((match, -key), axis=1)
    return np.take_along_axis(match & counts, order, axis=1)


def _check(
    scores: NDArray, query_pids: NDArray, gallery_pids: NDArray, query_camids: NDArray, gallery_camids: NDArray
) -> None:
    expected = (len(query_pids), len(gallery_pids))
    if scores.shape != expected or len(query_camids) != expected[0] or len(gallery_camids) != expected[1]:
        raise ValueError(
            f"scores have shape {scores.shape}, for {len(query_pids)} query pids, {len(query_camids)} query camids, "
            f"{len(gallery_pids)} gallery pids and {len(gallery_camids)} gallery camids"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers")
