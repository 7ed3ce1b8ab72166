"""Lift a table of scores by a profile, some rows at a time.

Q queries, G gallery images; q and g of them on one pair of cameras. A query's lift needs the best images of the queries
around it. They are few numbers, which are kept for all queries, so that the rows themselves need not be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.tables import Rows, Table, row_blocks
from qaconv.tlift.clock_checks import correct_times
from qaconv.tlift.lift import (
    BestImages,
    best_images,
    check_finite,
    check_places,
    choose_pivots,
    find_neighbours,
    join_best,
    ranges,
    time_weights,
)

if TYPE_CHECKING:
    from qaconv.tlift.profile import TLiftProfile

ScoreKind = Literal["direct", "reranked"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TINY = 1e-300  # smallest number whose logarithm is taken


@dataclass(frozen=True)
class CameraPair:
    """Queries of one camera and gallery images of another, all with times.

    Attributes:
        rows: queries, ascending, [q].
        columns: gallery images, [g].
        query_camid: camera of the queries.
        gallery_camid: camera of the gallery images.
    """

    rows: Ints
    columns: Ints
    query_camid: int
    gallery_camid: int


class Lift:
    """Lift the rows of a table.

    Args:
        profile: lifts; without its times, scores stay.
        scores: [Q, G] in [0, 1].
        query_camids: [Q].
        query_times: [Q] seconds, NaN where unknown.
        gallery_camids: [G].
        gallery_times: [G] seconds, NaN where unknown.
        ranking: kind of the scores.

    Raises:
        InputError: a camera is not in the profile, or a time cannot be seconds.
        ValueError: shapes do not fit.
    """

    def __init__(
        self,
        profile: "TLiftProfile",
        scores: Table,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        ranking: ScoreKind,
    ) -> None:
        query_camids, gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
        query_times, gallery_times = np.asarray(query_times, np.float64), np.asarray(gallery_times, np.float64)
        check_places(
            scores.shape, query_camids, np.nan_to_num(query_times), gallery_camids, np.nan_to_num(gallery_times)
        )
        profile.check_cameras(query_camids=query_camids, gallery_camids=gallery_camids)
        self._profile, self._scores, self._calibration = profile, scores, profile.calibrations.get(ranking)
        self._query_times = correct_times(profile.clocks, query_camids, query_times)
        self._gallery_times = correct_times(profile.clocks, gallery_camids, gallery_times)
        places = query_camids, self._query_times, gallery_camids, self._gallery_times
        self._pairs = list(camera_pairs(*places)) if profile.active else []
        self._best: list[BestImages] | None = None
        tau = profile.parameters.tau_s
        self._neighbours = {
            pair.query_camid: find_neighbours(
                np.full(len(pair.rows), pair.query_camid), self._query_times[pair.rows], tau=tau
            )
            for pair in self._pairs
        }

    def all(self) -> Floats:
        """Return all rows."""
        return self.rows(slice(None)) if not self._profile.active else self._lift(np.arange(self._scores.shape[0]))

    def rows(self, rows: Rows) -> Floats:
        """Return some rows."""
        if not self._profile.active:
            return self._read(rows).copy()
        if self._best is None:
            self._best = self._find_best()
        return self._lift(np.arange(self._scores.shape[0])[rows])

    def _read(self, rows: Rows) -> Floats:
        table = np.asarray(self._scores[rows], dtype=np.float64)
        check_finite("scores", table)
        return table

    def _log_odds(self, rows: Rows) -> Floats:
        table = self._read(rows)
        return self._calibration(table) if self._calibration else np.log(np.maximum(table, TINY))

    def _transit(self, pair: CameraPair, rows: Ints) -> Floats:
        """Return the weighted log of transit / chance of some of a pair's queries, [q, g]."""
        weight = self._profile.parameters.transit_weight
        factors = np.zeros((len(rows), len(pair.columns)))
        if weight:
            times = self._query_times[rows], self._gallery_times[pair.columns]
            factors += weight * self._profile.log_ratios(*times, pair.query_camid, pair.gallery_camid)
        return factors

    def _find_best(self) -> list[BestImages]:
        """Return the best images of each pair's queries; all rows are read once."""
        parts: list[list[BestImages]] = [[] for _ in self._pairs]
        for block in row_blocks(self._scores.shape):
            log_odds = self._log_odds(block)
            for pair, best in zip(self._pairs, parts, strict=True):
                rows = pair.rows[slice(*np.searchsorted(pair.rows, (block.start, block.stop)))]
                if len(rows):
                    table = log_odds[np.ix_(rows - block.start, pair.columns)]
                    best.append(best_images(table + self._transit(pair, rows), self._profile.parameters.top_k))
        return [join_best(best) for best in parts]

    def _lift(self, rows: Ints) -> Floats:
        """Return some rows; all of them in their order where the best images are not known yet."""
        parameters = self._profile.parameters
        lifted = self._log_odds(rows)
        total, counts = np.zeros(len(rows)), np.zeros(len(rows))
        neutral = np.ones(lifted.shape, dtype=bool)
        for number, pair in enumerate(self._pairs):
            place = np.minimum(np.searchsorted(pair.rows, rows), len(pair.rows) - 1)
            chosen = np.flatnonzero(pair.rows[place] == rows)
            if not len(chosen):
                continue
            block = np.ix_(chosen, pair.columns)
            factors = self._transit(pair, rows[chosen])
            best = self._best[number] if self._best else best_images(lifted[block] + factors, parameters.top_k)
            neighbours = _of_some(self._neighbours[pair.query_camid], place[chosen])
            pivots = choose_pivots(best, neighbours, factors.shape, top_k=parameters.top_k)
            times = self._gallery_times[pair.columns]
            weights = time_weights(pivots, times, parameters.sigma_s, len(pair.rows)) + parameters.alpha
            factors = factors + np.log(np.maximum(weights, TINY))
            lifted[block] += factors
            total[chosen] += factors.sum(axis=1)
            counts[chosen] += len(pair.columns)
            neutral[block] = False
        mean = np.divide(total, counts, out=np.zeros_like(total), where=counts > 0)
        lifted += np.where(neutral, mean[:, None], 0.0)
        return np.exp(lifted, out=lifted)


def camera_pairs(
    query_camids: Ints, query_times: Floats, gallery_camids: Ints, gallery_times: Floats
) -> Iterator[CameraPair]:
    """Yield rows and columns with times on each two cameras."""
    for gallery_camid in np.unique(gallery_camids):
        columns = np.flatnonzero((gallery_camids == gallery_camid) & ~np.isnan(gallery_times))
        for query_camid in np.unique(query_camids[query_camids != gallery_camid]):
            rows = np.flatnonzero((query_camids == query_camid) & ~np.isnan(query_times))
            if len(columns) and len(rows):
                yield CameraPair(rows, columns, int(query_camid), int(gallery_camid))


def _of_some(neighbours: tuple[Ints, Ints], queries: Ints) -> tuple[Ints, Ints]:
    """Return the neighbours of some queries, which are numbered by their place among these."""
    query, neighbour = neighbours
    first = np.searchsorted(query, queries)
    lengths = np.searchsorted(query, queries, side="right") - first
    return np.repeat(np.arange(len(queries)), lengths), neighbour[ranges(first, lengths)]
