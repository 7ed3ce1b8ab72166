"""Measure rankings: CMC, mAP and mINP, also for each pair of cameras.

The protocol is Market-1501's (Zheng et al., ICCV 2015): gallery images of the query's person on the query's camera do
not count, junk (pid -1) and unlabelled images (pid -2) are removed from the gallery, and queries without a true match
do not count. Q queries, G gallery images.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from qaconv.metrics.sightings import SameCamera, Sightings, check_choice, is_known
from qaconv.tables import Table

WithoutMatch = Literal["skip", "zero", "refuse"]
Ties = Literal["wrong_first", "right_first"]


@dataclass(frozen=True)
class RankingMetrics:
    """Ranking metrics, in [0, 1].

    Attributes:
        cmc: share of queries with a true match among the first k + 1, [G]; cmc[0] is rank-1.
        mean_average_precision: mean over queries of the precision at each true match.
        mean_inverse_negative_penalty: mean over queries of true matches / rank of the last one (Ye et al., TPAMI 2021).
        average_precisions: [Q]; NaN for queries that do not count.
        first_ranks: rank of the first true match, from 1, [Q]; infinite without one, NaN for queries that do not count.
        queries: number of queries that count.
    """

    cmc: NDArray[np.float64]
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    average_precisions: NDArray[np.float64]
    first_ranks: NDArray[np.float64]
    queries: int


def evaluate_ranking(
    scores: ArrayLike | Table,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    same_camera: SameCamera = "drop",
    without_match: WithoutMatch = "skip",
    ties: Ties = "wrong_first",
) -> RankingMetrics:
    """Compute rank-1, the CMC curve and mAP of scores: each query ranks the gallery, the highest score first.

    Args:
        scores: [Q, G] finite numbers; a block of rows is read at a time.
        query_pids: person on each query, [Q].
        gallery_pids: person on each gallery image, [G].
        query_camids: camera of each query, [Q].
        gallery_camids: camera of each gallery image, [G].
        same_camera: whether to "drop" or "keep" gallery images of the query's person on the query's camera; "keep" is
            for data with one camera or without camera ids. Default: "drop".
        without_match: whether a query without a true match is skipped, counted as average precision 0, or an error.
            Default: "skip".
        ties: whether wrong or right images come first among equal scores: the lowest and the highest figure of any
            order of the gallery. Default: "wrong_first".

    Raises:
        ValueError: shapes do not fit, a score is not a finite number, an id is NaN, a choice is unknown, there is no
            query or no gallery image, no query has a true match, or one has none and `without_match` is "refuse".

    Example:
        >>> metrics = evaluate_ranking([[0.9, 0.8, 0.1]], [1], [2, 1, 1], [0], [1, 1, 1])
        >>> metrics.cmc
        array([0., 1., 1.])
        >>> round(metrics.mean_average_precision, 3)
        0.583
    """
    check_choice("same_camera", same_camera, SameCamera)
    check_choice("without_match", without_match, WithoutMatch)
    check_choice("ties", ties, Ties)
    sightings = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    gallery = _KnownGallery(sightings, np.ones(len(sightings.gallery_pids), dtype=bool))
    if not len(sightings.query_pids) or not len(gallery.columns):
        raise ValueError(
            f"queries and gallery must have images of people, got {len(sightings.query_pids)} queries and "
            f"{len(gallery.columns)} gallery images of a known person"
        )
    count = len(sightings.query_pids)
    precisions, penalties, first = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    for rows, block in sightings.blocks():
        for query, row in zip(range(rows.start, rows.stop), block, strict=True):
            ranks = gallery.true_ranks(query, row, same_camera, ties)
            if len(ranks):
                precisions[query] = _average_precision(ranks)
                penalties[query] = len(ranks) / ranks[-1]
                first[query] = ranks[0]
    _fill_without_match(precisions, penalties, first, without_match)

    ranks = first[np.isfinite(first)].astype(np.intp)
    queries = int((~np.isnan(first)).sum())
    cmc = np.bincount(ranks - 1, minlength=len(gallery.columns)).cumsum() / queries
    return RankingMetrics(cmc, float(np.nanmean(precisions)), float(np.nanmean(penalties)), precisions, first, queries)


class _KnownGallery:
    """Gallery images of known people, those of each person together.

    Args:
        sightings: queries and gallery.
        chosen: whether an image is one of this gallery, [G].

    Attributes:
        columns: of the table of scores.
    """

    def __init__(self, sightings: Sightings, chosen: NDArray[np.bool_]) -> None:
        order = np.argsort(sightings.gallery_pids, kind="stable")
        self.columns = order[(chosen & is_known(sightings.gallery_pids))[order]]
        people = sightings.gallery_pids[self.columns]
        self._camids = sightings.gallery_camids[self.columns]
        self._query_camids = sightings.query_camids
        self._start = people.searchsorted(sightings.query_pids, side="left")
        self._end = people.searchsorted(sightings.query_pids, side="right")

    def true_ranks(self, query: int, scores: NDArray[Any], same_camera: str, ties: str) -> NDArray[np.intp]:
        """Return the ranks of a query's true matches, ascending; none without one.

        To count the images that score as high as a match costs less than to sort the gallery: a person is on few
        images.

        Args:
            query: number of the query.
            scores: its row of the table, [G].
            same_camera: as in `evaluate_ranking`.
            ties: as in `evaluate_ranking`.
        """
        of_person = slice(self._start[query], self._end[query])
        matches = np.ones(of_person.stop - of_person.start, dtype=bool)
        if same_camera == "drop":
            matches = self._camids[of_person] != self._query_camids[query]
        if not matches.any():
            return np.empty(0, dtype=np.intp)
        row = scores.take(self.columns)
        above = np.greater_equal if ties == "wrong_first" else np.greater
        same = row[of_person]
        levels = np.sort(same[matches])[::-1]
        wrong = [np.count_nonzero(above(row, level)) - np.count_nonzero(above(same, level)) for level in levels]
        return np.array(wrong) + np.arange(1, len(levels) + 1)


def _average_precision(ranks: NDArray[np.intp]) -> float:
    """Return the mean precision at the ranks of all true matches."""
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())


def _fill_without_match(
    precisions: NDArray[np.float64], penalties: NDArray[np.float64], first: NDArray[np.float64], without_match: str
) -> None:
    """Fill in the values of queries without a true match, in place."""
    missing = np.isnan(first)
    if missing.all():
        raise ValueError(
            "at least one query must have a true match in the gallery on another camera, got none; "
            "for data without camera ids set same_camera='keep'"
        )
    if missing.any() and without_match == "refuse":
        raise ValueError(f"every query must have a true match, got {int(missing.sum())} of {len(missing)} without one")
    if without_match == "zero":
        precisions[missing], penalties[missing], first[missing] = 0, 0, np.inf


def evaluate_camera_pairs(
    scores: ArrayLike | Table,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
) -> pd.DataFrame:
    """Rank the gallery of one camera for the queries of another, for every two cameras that share a person.

    Returns:
        A row for each pair: query_camid, gallery_camid, queries, rank1 and mAP in [0, 1].
    """
    sightings = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    cameras = np.unique(sightings.gallery_camids)
    galleries = [_KnownGallery(sightings, sightings.gallery_camids == camera) for camera in cameras]
    precisions, first = (np.full((len(sightings.query_pids), len(cameras)), np.nan) for _ in range(2))
    for rows, block in sightings.blocks():
        for query, row in zip(range(rows.start, rows.stop), block, strict=True):
            for number in np.flatnonzero(cameras != sightings.query_camids[query]).tolist():
                ranks = galleries[number].true_ranks(query, row, "drop", "wrong_first")
                if len(ranks):
                    precisions[query, number] = _average_precision(ranks)
                    first[query, number] = ranks[0]
    table = []
    for query_camid in np.unique(sightings.query_camids):
        of_camera = sightings.query_camids == query_camid
        for number, gallery_camid in enumerate(cameras):
            their_precisions, their_first = precisions[of_camera, number], first[of_camera, number]
            if queries := int((~np.isnan(their_first)).sum()):
                figures = queries, int((their_first == 1).sum()) / queries, float(np.nanmean(their_precisions))
                table.append((int(query_camid), int(gallery_camid), *figures))
    return pd.DataFrame(table, columns=["query_camid", "gallery_camid", "queries", "rank1", "mAP"])
