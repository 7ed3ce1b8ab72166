"""Unlabelled sightings and a model's scores among them go in; what time can say there comes out, as a profile.

N sightings, k neighbours of each, M pairs of sightings on two cameras.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qaconv.tlift.calibration import calibrate
from qaconv.tlift.clock_checks import Finding, check_clocks, find_duplicates, mend_times
from qaconv.tlift.clock_repair import mend_clocks
from qaconv.tlift.comovement import CoMovement, measure_comovement
from qaconv.tlift.em import Mixture, beside_companions, confident, fit_mixture, judge_by
from qaconv.tlift.pairs import Pairs, cross_camera_pairs
from qaconv.tlift.parameter_selection import Choice, choose_parameters
from qaconv.tlift.profile import TLiftProfile, TransitTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

log = logging.getLogger(__name__)

CONTROLS = 3  # fits with the times of each camera permuted
LEAST_GAIN = 0.02  # nats a confident match ...
LEAST_RATIO = 3.0  # ... and times the best control: below either, time carries no signal
FEWEST_MATCHES = 30
NO_TIMES = "no times: time is not used"
PURITY = 0.8  # of the matches that the co-movement and the dwell are measured on
VISIT_SECONDS = 120.0  # sightings of one person on one camera within this are one visit


def fit(
    neighbour_indices: ArrayLike,
    neighbour_scores: ArrayLike,
    camids: ArrayLike,
    times: ArrayLike,
    *,
    reranked: tuple[ArrayLike, ArrayLike] | None = None,
    known: Sequence[Finding] = (),
    target: str = "",
    model: str = "",
    seed: int = 0,
) -> TLiftProfile:
    """Learns transit times, what scores are worth and how much time counts. The order of sightings changes nothing.

    Args:
        neighbour_indices: [N, k], each sighting's nearest others by score, best first.
        neighbour_scores: [N, k], theirs, in [0, 1].
        camids: [N].
        times: [N] seconds on the camera's clock, NaN where unknown.
        reranked: indices [N, j] and scores [N, j] of each sighting's nearest by 1 - the re-ranked distance; scores are
            NaN where there are none, such as for the gallery.
        known: what the order of recording showed of the clocks to whoever read the sightings.
        target: the camera network's name.
        model: digest of the network whose scores these are.
        seed: of the permuted control.

    Raises:
        ValueError: shapes do not fit, or a score is not a number in [0, 1].
    """
    indices, scores, camids, times, order = _canonical(neighbour_indices, neighbour_scores, camids, times)
    checked, used = check_clocks(camids, times)
    findings = [*known, *checked]
    found: dict[str, Any] = {
        "target": target,
        "model": model,
        "sightings": sha256(np.concatenate([camids, times]).tobytes()).hexdigest(),
        "camids": tuple(int(camid) for camid in np.unique(camids)),
        "span_s": (float(times[used].min()), float(times[used].max())) if used.any() else None,
    }
    if not np.isfinite(times).any():
        return TLiftProfile(**found, active=False, reason=NO_TIMES, findings=tuple(findings))
    pairs = cross_camera_pairs(indices, scores, camids)
    pairs = pairs.keep(used[pairs.first] & used[pairs.second])
    if (mutual := int(pairs.mutual.sum())) < FEWEST_MATCHES:
        reason = f"{mutual} mutual best matches with a time on two cameras; at least {FEWEST_MATCHES} are needed"
        return TLiftProfile(**found, active=False, reason=reason, findings=tuple(findings))

    sure = confident(pairs)
    times = np.where(used, times, np.median(times[used]))
    mixture = fit_mixture(pairs, camids, times)
    ends = _renumbered(used, pairs.first, pairs.second)
    mends, changed = mend_clocks(camids[used], times[used], *ends, mixture.prior)
    if mends:
        times = np.where(used, mend_times(mends, camids, times), times)
        mixture = fit_mixture(pairs, camids, times)
    findings += find_duplicates(camids, times, indices)
    gain, controls = mixture.gain(sure), _controls(pairs, camids, times, used, np.random.default_rng(seed))
    mixture, companions = beside_companions(mixture, pairs, camids, times)
    calibrations = {"direct": calibrate(pairs.score, mixture.posterior)}
    if reranked is not None:
        again = cross_camera_pairs(*_reordered(np.asarray(reranked[0]), np.asarray(reranked[1]), order), camids)
        again = again.keep(used[again.first] & used[again.second])
        calibrations["reranked"] = calibrate(again.score, judge_by(mixture, again, camids, times))
    choice = choose_parameters(pairs, mixture, calibrations["direct"], camids, times)
    active = gain > max(LEAST_GAIN, LEAST_RATIO * max(controls))
    return TLiftProfile(
        **found,
        active=active,
        reason=f"held-out matches gain {gain:.2f} nats each from their times; with times permuted at most "
        f"{max(controls):.2f}" + ("" if active else ": time carries no signal that can be told from chance"),
        parameters=choice.parameters,
        transit=_table(mixture),
        calibrations=calibrations,
        clocks=mends if active else {},
        findings=tuple(findings + changed if active else findings),
        evidence=_evidence(pairs, mixture, indices, scores, camids, times, choice, gain, controls, companions, seed),
    )


def _canonical(
    indices: ArrayLike, scores: ArrayLike, camids: ArrayLike, times: ArrayLike
) -> tuple[Ints, Floats, Ints, Floats, Ints]:
    """Sightings sorted by camera, time and best scores, so that their order on the way in does not matter, and how."""
    index, score = np.asarray(indices, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    camid, time = np.asarray(camids, dtype=np.int64), np.asarray(times, dtype=np.float64)
    if index.shape != score.shape or index.shape != (len(camid), index.shape[-1]) or len(time) != len(camid):
        raise ValueError(
            f"neighbour_indices have shape {index.shape} and neighbour_scores {score.shape}, "
            f"for {len(camid)} camids and {len(time)} times"
        )
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError(f"neighbour_scores: {int((~((score >= 0) & (score <= 1))).sum())} are not in [0, 1]")
    order = np.lexsort((*score.T[::-1], np.nan_to_num(time), camid))
    return *_reordered(index, score, order), camid[order], time[order], order


def _reordered(indices: Ints, scores: Floats, order: Ints) -> tuple[Ints, Floats]:
    """Neighbours of sightings that are numbered in another order from now on."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[indices[order]], scores[order]


def _renumbered(used: NDArray[np.bool_], first: Ints, second: Ints) -> tuple[Ints, Ints]:
    place = np.cumsum(used) - 1
    return place[first], place[second]


def _controls(
    pairs: Pairs, camids: Ints, times: Floats, used: NDArray[np.bool_], rng: np.random.Generator
) -> list[float]:
    """What the same fit gains where the times of each camera are dealt out anew."""
    gains = []
    for _ in range(CONTROLS):
        permuted = times.copy()
        for camid in np.unique(camids):
            mine = np.flatnonzero((camids == camid) & used)
            permuted[mine] = times[rng.permutation(mine)]
        gains.append(fit_mixture(pairs, camids, permuted).gain(confident(pairs)))
    return gains


def _table(mixture: Mixture) -> TransitTable:
    centres = [None if np.isnan(centre) else round(float(centre), 3) for centre in mixture.axis.centres]
    return TransitTable(centres, float(mixture.axis.reach), np.round(np.log(mixture.ratio), 3).tolist())


def _evidence(
    pairs: Pairs,
    mixture: Mixture,
    indices: Ints,
    scores: Floats,
    camids: Ints,
    times: Floats,
    choice: Choice,
    gain: float,
    controls: list[float],
    companions: float,
    seed: int,
) -> dict[str, Any]:
    cut = _cut(pairs, mixture)
    kept = pairs.mutual & (pairs.score >= cut)
    near = (camids[indices] == camids[:, None]) & (np.abs(times[indices] - times[:, None]) < VISIT_SECONDS)
    same_visit = near & (scores >= cut)
    neighbours = _share_with_neighbours(camids, times, choice.parameters.tau_s)
    return {
        "gain_nats": round(gain, 4),
        "control_nats": [round(each, 4) for each in controls],
        "transit_gain_nats": round(choice.transit_gain, 4),
        "tlift_gain_nats": round(choice.tlift_gain, 4),
        "held_out_matches": choice.matches,
        "score_cut": round(float(cut), 6),
        "matches_above_cut": int(kept.sum()),
        "matches_by_pair": _matches_by_pair(pairs, mixture),
        "purity_above_cut": round(float(mixture.posterior[kept].mean()), 3) if kept.any() else None,
        "bandwidth_bins": mixture.bandwidth,
        "companions_share": round(companions, 5),
        "share_with_a_neighbour_within_tau": neighbours,
        "dwell_s": _dwell(times, indices, same_visit),
        "comovement": asdict(_comovement(pairs, kept, mixture, indices, same_visit, times, seed)),
    }


def _matches_by_pair(pairs: Pairs, mixture: Mixture) -> list[float]:
    """[P]: about how many mutual matches between two cameras are right."""
    likely = np.where(pairs.mutual, mixture.posterior, 0.0)
    return np.round(np.bincount(mixture.pair, likely, minlength=len(mixture.axis.centres)), 1).tolist()


def _cut(pairs: Pairs, mixture: Mixture) -> float:
    """The lowest score above which mutual matches are as pure as asked for, by their estimated purity."""
    order = np.flatnonzero(pairs.mutual)[np.argsort(-pairs.score[pairs.mutual], kind="stable")]
    purity = np.cumsum(mixture.posterior[order]) / np.arange(1, len(order) + 1)
    pure = np.flatnonzero(purity >= PURITY)
    return float(pairs.score[order[pure[-1]]]) if len(pure) else float(pairs.score[order[0]])


def _share_with_neighbours(camids: Ints, times: Floats, tau: float) -> dict[str, float]:
    """By camera: share of its sightings that another of them lies within tau of."""
    order = np.lexsort((times, camids))
    close = (np.diff(times[order]) < tau) & (np.diff(camids[order]) == 0)
    shared = np.append(close, False) | np.insert(close, 0, False)
    return {str(camid): round(float(shared[camids[order] == camid].mean()), 3) for camid in np.unique(camids)}


def _dwell(times: Floats, indices: Ints, same_visit: NDArray[np.bool_]) -> list[float] | None:
    """Median and ninth decile of the seconds between sightings of one visit."""
    if not same_visit.any():
        return None
    apart = np.abs(times[indices] - times[:, None])[same_visit]
    return np.round(np.quantile(apart, [0.5, 0.9]), 2).tolist()


def _comovement(
    pairs: Pairs,
    kept: NDArray[np.bool_],
    mixture: Mixture,
    indices: Ints,
    same_visit: NDArray[np.bool_],
    times: Floats,
    seed: int,
) -> CoMovement:
    """Sightings that matches or one visit join are one person; their walks are no companions."""
    row, column = np.nonzero(same_visit)
    one = np.concatenate([pairs.first[kept], row])
    other = np.concatenate([pairs.second[kept], indices[row, column]])
    joined = coo_array((np.ones(len(one)), (one, other)), shape=(len(indices), len(indices)))
    _, person = connected_components(joined, directed=False)
    first, second = pairs.first[kept], pairs.second[kept]
    walk = times[second] - times[first]
    return measure_comovement(mixture.pair[kept], times[first], walk, person[first], np.random.default_rng(seed))
