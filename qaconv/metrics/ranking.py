"""Scores and who was really seen go in; CMC, mAP and mINP come out, also for each pair of cameras.

Q queries, G gallery images. The protocol is Market-1501's (Zheng et al., ICCV 2015): gallery images of the query's
own person and camera do not count, junk (pid -1) leaves the gallery, and queries without a true match do not count.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from qaconv.data.manifest import JUNK
from qaconv.metrics.sightings import SameCamera, Sightings


@dataclass(frozen=True)
class RankingMetrics:
    """How well queries find their person; every figure in [0, 1].

    Attributes:
        cmc: [G], the share of queries with a true match among the first k + 1; cmc[0] is rank-1.
        mean_average_precision: mean over queries of the precision at each true match.
        mean_inverse_negative_penalty: mean over queries of true matches / rank of the last one (Ye et al., TPAMI 2021).
        average_precisions: [Q], NaN for queries that did not count.
        first_ranks: [Q], rank of the first true match, from 1; infinite where there is none, NaN likewise.
        queries: how many counted.
    """

    cmc: NDArray[np.float64]
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    average_precisions: NDArray[np.float64]
    first_ranks: NDArray[np.float64]
    queries: int


def evaluate_ranking(
    scores: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    same_camera: SameCamera = "drop",
    without_match: Literal["skip", "zero", "refuse"] = "skip",
    ties: Literal["wrong_first", "right_first"] = "wrong_first",
) -> RankingMetrics:
    """Ranks the gallery for each query by `scores` [Q, G], higher first; one row of them is copied at a time.

    Args:
        scores: any real numbers.
        query_pids: [Q].
        gallery_pids: [G].
        query_camids: [Q].
        gallery_camids: [G].
        same_camera: whether gallery images of the query's person on its camera are dropped, or kept, which is right
            for data with one camera or without camera ids.
        without_match: what becomes of a query without a true match: skipped, counted as never found, or refused.
        ties: which of equal scores come first. Neither depends on the gallery's order; the two enclose every order.

    Raises:
        ValueError: shapes do not fit, a score is not a number, no query has a true match, or one has none and
            `without_match` is "refuse".
    """
    seen = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    order = np.argsort(seen.gallery_pids, kind="stable")
    order = order[seen.gallery_pids[order] != JUNK]
    people, camids = seen.gallery_pids[order], seen.gallery_camids[order]
    start, end = (people.searchsorted(seen.query_pids, side=side) for side in ("left", "right"))

    count = len(seen.query_pids)
    precisions, penalties, first = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    for query in range(count):
        own = slice(start[query], end[query])  # the person's images stand side by side
        right = np.ones(end[query] - start[query], dtype=bool)
        if same_camera == "drop":
            right = camids[own] != seen.query_camids[query]
        if right.any():
            ranks = _true_ranks(seen.scores[query].take(order), own, right, ties)
            precisions[query] = (np.arange(1, len(ranks) + 1) / ranks).mean()
            penalties[query] = len(ranks) / ranks[-1]
            first[query] = ranks[0]
    _settle(precisions, penalties, first, without_match)

    ranks = first[np.isfinite(first)].astype(np.intp)
    queries = int((~np.isnan(first)).sum())
    cmc = np.bincount(ranks - 1, minlength=len(order)).cumsum() / queries
    return RankingMetrics(cmc, float(np.nanmean(precisions)), float(np.nanmean(penalties)), precisions, first, queries)


def _true_ranks(row: NDArray, own: slice, right: NDArray[np.bool_], ties: str) -> NDArray[np.intp]:
    """The rank of each true match, rising.

    Counting what scores as high as a true match costs less than sorting the gallery: a person is on few images.

    Args:
        row: [G], the query's scores.
        own: which of them are the query's person.
        right: which of those count.
        ties: as in `evaluate_ranking`.
    """
    above = np.greater_equal if ties == "wrong_first" else np.greater
    same = row[own]
    levels = np.sort(same[right])[::-1]
    wrong = [np.count_nonzero(above(row, level)) - np.count_nonzero(above(same, level)) for level in levels]
    return np.array(wrong) + np.arange(1, len(levels) + 1)


def _settle(precisions: NDArray, penalties: NDArray, first: NDArray, without_match: str) -> None:
    """Fills in queries without a true match, in place."""
    missing = np.isnan(first)
    if missing.all():
        raise ValueError(
            "no query has a true match in the gallery on another camera; "
            "if there are no cameras to tell apart, legal is same_camera='keep'"
        )
    if missing.any() and without_match == "refuse":
        raise ValueError(f"{int(missing.sum())} of {len(missing)} queries have no true match; without_match refuses")
    if without_match == "zero":
        precisions[missing], penalties[missing], first[missing] = 0, 0, np.inf


def evaluate_camera_pairs(
    scores: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
) -> pd.DataFrame:
    """Queries of one camera against the gallery of another, for every two that share a person.

    Returns:
        query_camid, gallery_camid, queries, rank1 and mAP, a row a pair; rank1 and mAP in [0, 1].
    """
    seen = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    rows = []
    for query_camid in np.unique(seen.query_camids):
        mine = seen.query_camids == query_camid
        for gallery_camid in np.unique(seen.gallery_camids):
            there = (seen.gallery_camids == gallery_camid) & (seen.gallery_pids != JUNK)
            if query_camid == gallery_camid or not np.isin(seen.query_pids[mine], seen.gallery_pids[there]).any():
                continue
            metrics = evaluate_ranking(
                seen.scores[np.ix_(mine, there)],
                seen.query_pids[mine],
                seen.gallery_pids[there],
                seen.query_camids[mine],
                seen.gallery_camids[there],
            )
            figures = (metrics.queries, float(metrics.cmc[0]), metrics.mean_average_precision)
            rows.append((int(query_camid), int(gallery_camid), *figures))
    return pd.DataFrame(rows, columns=["query_camid", "gallery_camid", "queries", "rank1", "mAP"])
