"""A target's matches go in; the parameters of its lift come out, chosen without labels.

The criterion: of a mutual best match, hide what the two look like, and ask how well time alone says which of the
camera's sightings is the partner. It is the mean log of
    share * P(partner) + (1 - share) / g,    P(j) ~ (weight_j + alpha) * (transit / chance) ** transit_weight
over all g sightings j on its camera, share being how likely a match of that score is right at all. The query's own
scores are left out of TLift's weight, and the transit times are learnt from the other half of the day. Given who it is,
looks and time are independent, so the factor that foresees best is also the one to multiply the odds with.
q queries on one camera, g sightings on another, m matches between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logsumexp

from qaconv.tlift.calibration import Calibration
from qaconv.tlift.em import Mixture, halves_of
from qaconv.tlift.lift import find_neighbours, find_pivots, time_weights
from qaconv.tlift.pairs import Pairs
from qaconv.tlift.profile import LiftParameters, TransitTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TRANSIT_WEIGHTS = (0.5, 0.7, 1.0)  # likelihood ratios count once, or less where there are few to learn them from
TAUS_S, SIGMAS_S, TOP_KS = (30.0, 100.0), (10.0, 50.0, 200.0), (5, 10)
ALPHAS = (0.2, 1.0, 5.0)
QUERY_EVERY = 5  # sightings of a camera, in time: about the share of queries in a target
MOST_QUERIES, MOST_SIGHTINGS = 1000, 20_000  # that parameters are chosen on: a stretch in the middle of the day


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        parameters: the best.
        transit_gain: nats a match by which transit times foresee the partner, against all sightings alike.
        tlift_gain: nats a match that TLift adds to them.
        matches: how many were asked.
    """

    parameters: LiftParameters
    transit_gain: float
    tlift_gain: float
    matches: int


@dataclass(frozen=True)
class _Asked:
    """Queries of one camera and the sightings of another.

    Attributes:
        log_odds: [q, g] by appearance; the lowest where the two are no neighbours.
        log_ratio: [q, g] of transit times.
        query_times: [q].
        gallery_times: [g].
        row: [m] the queries of mutual best matches ...
        column: [m] ... their partners ...
        share: [m] ... and how likely each is right, by its score.
    """

    log_odds: Floats
    log_ratio: Floats
    query_times: Floats
    gallery_times: Floats
    row: Ints
    column: Ints
    share: Floats


def choose_parameters(pairs: Pairs, mixture: Mixture, calibration: Calibration, camids: Ints, times: Floats) -> Choice:
    """Transit weight first, then TLift on top of it.

    Args:
        pairs: of all sightings.
        mixture: fitted on them.
        calibration: of the pairs' scores.
        camids: [N].
        times: [N] seconds, mended.
    """
    asked = list(_ask(pairs, mixture, calibration, camids, times))
    matches = sum(len(each.row) for each in asked)
    if not matches:
        return Choice(LiftParameters(alpha=ALPHAS[-1], transit_weight=1.0), 0.0, 0.0, 0)
    by_weight = {weight: _foresight(asked, weight, None) for weight in (0.0, *TRANSIT_WEIGHTS)}
    weight = max(TRANSIT_WEIGHTS, key=lambda each: by_weight[each])
    best, parameters = by_weight[weight], LiftParameters(alpha=ALPHAS[-1], transit_weight=weight)
    for tau, top_k in product(TAUS_S, TOP_KS):
        pivots = [_hidden_pivots(each, weight, tau, top_k) for each in asked]
        for sigma in SIGMAS_S:
            weights = [
                time_weights(of, each.gallery_times, sigma)[each.row] for of, each in zip(pivots, asked, strict=True)
            ]
            for alpha in ALPHAS:
                found = _foresight(asked, weight, [np.log(of + alpha) for of in weights])
                if found > best:
                    best, parameters = found, LiftParameters(tau, sigma, top_k, alpha, weight)
    return Choice(parameters, by_weight[weight] - by_weight[0.0], best - by_weight[weight], matches)


def _ask(pairs: Pairs, mixture: Mixture, calibration: Calibration, camids: Ints, times: Floats) -> Iterator[_Asked]:
    """Every two cameras that a mutual best match of a query joins, both ways."""
    inside, query = _sample(camids, times)
    place = np.full(len(camids), -1)
    cameras = mixture.axis.camids
    halves = halves_of(np.arange(len(camids)), camids, times)
    floor = calibration(pairs.score).min()
    tables = [_table(mixture, half) for half in (0, 1)]
    for query_camid, gallery_camid in product(cameras, cameras):
        asked = np.flatnonzero(query & (camids == query_camid))
        found = np.flatnonzero(inside & ~query & (camids == gallery_camid))
        if query_camid == gallery_camid or not len(asked) or not len(found):
            continue
        forward = query_camid < gallery_camid
        number = int(mixture.axis.pair_of(min(query_camid, gallery_camid), max(query_camid, gallery_camid)))
        one, other = (pairs.first, pairs.second) if forward else (pairs.second, pairs.first)
        place[:] = -1
        place[asked], place[found] = np.arange(len(asked)), np.arange(len(found))
        held = np.flatnonzero((mixture.pair == number) & (place[one] >= 0) & (place[other] >= 0))
        rows, columns = place[one[held]], place[other[held]]
        matched = pairs.mutual[held]
        if not matched.any():
            continue
        log_odds = np.full((len(asked), len(found)), floor)
        log_odds[rows, columns] = calibration(pairs.score[held])
        gaps = (times[found] - times[asked][:, None]) * (1 if forward else -1)
        ratio = np.where(halves[asked][:, None] == 0, tables[0](number, gaps), tables[1](number, gaps))
        share = mixture.prior[held[matched]]
        yield _Asked(log_odds, ratio, times[asked], times[found], rows[matched], columns[matched], share)


def _sample(camids: Ints, times: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[N] twice: sightings in a stretch that is small enough, and the queries among them."""
    order = np.argsort(times, kind="stable")
    spare = max(0, len(order) - MOST_SIGHTINGS) // 2
    inside = np.zeros(len(camids), dtype=bool)
    inside[order[spare : len(order) - spare]] = True
    query = np.zeros(len(camids), dtype=bool)
    every = max(QUERY_EVERY, int(inside.sum()) // MOST_QUERIES)
    for camid in np.unique(camids):
        mine = order[(camids[order] == camid) & inside[order]]
        query[mine[::every]] = True
    return inside, query


def _table(mixture: Mixture, half: int) -> TransitTable:
    centres = [None if np.isnan(centre) else float(centre) for centre in mixture.axis.centres]
    return TransitTable(centres, mixture.axis.reach, np.log(mixture.halves[half]))


def _hidden_pivots(asked: _Asked, weight: float, tau: float, top_k: int) -> sparse.coo_array:
    """TLift's pivots of each query by its companions alone."""
    one_camera = np.zeros(len(asked.query_times))
    companions = find_neighbours(one_camera, asked.query_times, tau=tau, with_itself=False)
    return find_pivots(asked.log_odds + weight * asked.log_ratio, companions, top_k=top_k)


def _foresight(asked: list[_Asked], weight: float, log_weights: list[Floats] | None) -> float:
    """Mean log probability of the partners; `log_weights` [m, g] are TLift's, of each match's query."""
    total, matches = 0.0, 0
    for number, each in enumerate(asked):
        log_factor = weight * each.log_ratio[each.row] + (log_weights[number] if log_weights else 0.0)
        partner = np.exp(log_factor[np.arange(len(each.row)), each.column] - logsumexp(log_factor, axis=1))
        total += float(np.log(each.share * partner + (1 - each.share) / log_factor.shape[1]).sum())
        matches += len(each.row)
    return total / matches
