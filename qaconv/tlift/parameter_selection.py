"""Choose the parameters of a lift without labels.

The criterion hides the appearance of a mutual best match and asks how well times alone find its partner among the
sightings of the other camera. It is the mean log of
    share * P(partner) + (1 - share) / g,    P(j) ~ (weight_j + alpha) * (transit / chance) ** transit_weight
over all g sightings j of that camera; share is the probability that a match of this score is right. The query's own
scores are left out of TLift's weight, and transit times are learnt from the other half of the day. Appearance and time
are independent given the person, so the factor that predicts best is also the one to multiply the odds with.
N sightings; q queries on one camera, g sightings on another, m matches between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp

from qaconv.tlift.calibration import Calibration
from qaconv.tlift.em import Mixture, halves_of
from qaconv.tlift.lift import find_neighbours, find_pivots, time_weights
from qaconv.tlift.pairs import Pairs
from qaconv.tlift.parameters import LiftParameters
from qaconv.tlift.transit import TransitTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TRANSIT_WEIGHTS = (0.5, 0.7, 1.0)  # at most 1: evidence counts once, and less where it is learnt from few pairs
TAUS_S = (30.0, 100.0)
SIGMAS_S = (10.0, 50.0, 200.0)
TOP_KS = (5, 10)
ALPHAS = (0.2, 1.0, 5.0)
QUERY_EVERY = 5  # sightings of a camera in time: about the share of queries in a target
MAX_QUERIES = 1000
MAX_SIGHTINGS = 20_000  # from the middle of the time span


@dataclass(frozen=True)
class Choice:
    """The chosen parameters and what they gain.

    Attributes:
        parameters: the best.
        transit_gain: nats for each match by which transit times predict the partner better than chance.
        tlift_gain: nats for each match that TLift adds.
        matches: number of matches.
    """

    parameters: LiftParameters
    transit_gain: float
    tlift_gain: float
    matches: int


class Window(NamedTuple):
    """The sightings that parameters are chosen on.

    Attributes:
        inside: those of a time span, [N].
        query: those among them whose partners are looked for, [N].
    """

    inside: Bools
    query: Bools

    @classmethod
    def choose(cls, camids: Ints, times: Floats) -> "Window":
        """Choose a time span with at most MAX_SIGHTINGS, and queries among them.

        Args:
            camids: [N].
            times: [N] seconds.
        """
        order = np.argsort(times, kind="stable")
        margin = max(0, len(order) - MAX_SIGHTINGS) // 2
        inside = np.zeros(len(camids), dtype=bool)
        inside[order[margin : len(order) - margin]] = True
        query = np.zeros(len(camids), dtype=bool)
        every = max(QUERY_EVERY, int(inside.sum()) // MAX_QUERIES)
        for camid in np.unique(camids):
            rows = order[(camids[order] == camid) & inside[order]]
            query[rows[::every]] = True
        return cls(inside, query)


@dataclass(frozen=True)
class _CameraPair:
    """Queries of one camera and the sightings of another.

    Attributes:
        log_odds: by appearance, [q, g]; the lowest for pairs that are not neighbours.
        log_ratio: of transit times, [q, g].
        query_times: [q].
        gallery_times: [g].
        row: query of each mutual best match, [m].
        column: its partner, [m].
        share: probability that the match is right by its score, [m].
    """

    log_odds: Floats
    log_ratio: Floats
    query_times: Floats
    gallery_times: Floats
    row: Ints
    column: Ints
    share: Floats


def choose_parameters(
    pairs: Pairs, mixture: Mixture, calibration: Calibration, camids: Ints, times: Floats, window: Window
) -> Choice:
    """Choose the transit weight first, then TLift's parameters.

    Args:
        pairs: of sightings, with all those of the window's queries.
        mixture: fitted on them.
        calibration: of the pairs' scores.
        camids: [N].
        times: [N] seconds, corrected.
        window: that they are chosen on.
    """
    camera_pairs = list(_camera_pairs(pairs, mixture, calibration, camids, times, window))
    matches = sum(len(pair.row) for pair in camera_pairs)
    if not matches:
        return Choice(LiftParameters(alpha=ALPHAS[-1], transit_weight=1.0), 0.0, 0.0, 0)
    by_weight = {weight: _log_likelihood(camera_pairs, weight, None) for weight in (0.0, *TRANSIT_WEIGHTS)}
    weight = max(TRANSIT_WEIGHTS, key=lambda candidate: by_weight[candidate])
    best = by_weight[weight]
    parameters = LiftParameters(alpha=ALPHAS[-1], transit_weight=weight)
    for tau, top_k in product(TAUS_S, TOP_KS):
        pivots = [_companions_pivots(pair, weight, tau, top_k) for pair in camera_pairs]
        for sigma in SIGMAS_S:
            weights = [
                time_weights(table, pair.gallery_times, sigma)[pair.row]
                for table, pair in zip(pivots, camera_pairs, strict=True)
            ]
            for alpha in ALPHAS:
                value = _log_likelihood(camera_pairs, weight, [np.log(table + alpha) for table in weights])
                if value > best:
                    best = value
                    parameters = LiftParameters(tau, sigma, top_k, alpha, weight)
    return Choice(parameters, by_weight[weight] - by_weight[0.0], best - by_weight[weight], matches)


def _camera_pairs(
    pairs: Pairs, mixture: Mixture, calibration: Calibration, camids: Ints, times: Floats, window: Window
) -> Iterator[_CameraPair]:
    """Every two cameras with a mutual best match of a query, in both directions."""
    inside, query = window
    position = np.full(len(camids), -1)
    cameras = mixture.axis.camids
    halves = halves_of(np.arange(len(camids)), camids, times)
    lowest = calibration(pairs.score).min()
    tables = [_transit_table(mixture, half) for half in (0, 1)]
    for query_camid, gallery_camid in product(cameras, cameras):
        query_rows = np.flatnonzero(query & (camids == query_camid))
        gallery_rows = np.flatnonzero(inside & ~query & (camids == gallery_camid))
        if query_camid == gallery_camid or not len(query_rows) or not len(gallery_rows):
            continue
        forward = query_camid < gallery_camid
        number = int(mixture.axis.pair_of(min(query_camid, gallery_camid), max(query_camid, gallery_camid)))
        one, other = (pairs.first, pairs.second) if forward else (pairs.second, pairs.first)
        position[:] = -1
        position[query_rows] = np.arange(len(query_rows))
        position[gallery_rows] = np.arange(len(gallery_rows))
        sampled = np.flatnonzero((mixture.pair == number) & (position[one] >= 0) & (position[other] >= 0))
        rows, columns = position[one[sampled]], position[other[sampled]]
        mutual = pairs.mutual[sampled]
        if not mutual.any():
            continue
        log_odds = np.full((len(query_rows), len(gallery_rows)), lowest)
        log_odds[rows, columns] = calibration(pairs.score[sampled])
        gaps = (times[gallery_rows] - times[query_rows][:, None]) * (1 if forward else -1)
        ratio = np.where(halves[query_rows][:, None] == 0, tables[0](number, gaps), tables[1](number, gaps))
        share = mixture.prior[sampled[mutual]]
        yield _CameraPair(log_odds, ratio, times[query_rows], times[gallery_rows], rows[mutual], columns[mutual], share)


def _transit_table(mixture: Mixture, half: int) -> TransitTable:
    centres = [None if np.isnan(centre) else float(centre) for centre in mixture.axis.centres]
    return TransitTable(centres, mixture.axis.reach, np.log(mixture.halves[half]))


def _companions_pivots(pair: _CameraPair, weight: float, tau: float, top_k: int) -> sparse.coo_array:
    """TLift's pivots of each query from its companions alone."""
    one_camera = np.zeros(len(pair.query_times))
    companions = find_neighbours(one_camera, pair.query_times, tau=tau, with_itself=False)
    return find_pivots(pair.log_odds + weight * pair.log_ratio, companions, top_k=top_k)


def _log_likelihood(camera_pairs: list[_CameraPair], weight: float, log_weights: list[Floats] | None) -> float:
    """Mean log probability of the partners; `log_weights` are TLift's, [m, g] for each pair of cameras."""
    total, matches = 0.0, 0
    for number, pair in enumerate(camera_pairs):
        log_factor = weight * pair.log_ratio[pair.row] + (log_weights[number] if log_weights else 0.0)
        partner = np.exp(log_factor[np.arange(len(pair.row)), pair.column] - logsumexp(log_factor, axis=1))
        total += float(np.log(pair.share * partner + (1 - pair.share) / log_factor.shape[1]).sum())
        matches += len(pair.row)
    return total / matches
