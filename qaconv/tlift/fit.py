"""Fit a temporal profile from unlabelled sightings and a model's scores among them.

N sightings, k neighbours of each, M pairs of sightings on two cameras, P pairs of cameras, R neighbours on one camera.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qaconv.tables import Table
from qaconv.tlift.calibration import calibrate
from qaconv.tlift.clock_checks import check_clocks, correct_times, find_duplicates
from qaconv.tlift.clock_repair import find_clock_corrections
from qaconv.tlift.comovement import CoMovement, measure_comovement
from qaconv.tlift.companions import Likeness
from qaconv.tlift.em import Mixture, confident, fit_mixture, include_companions, judge_by
from qaconv.tlift.findings import Finding
from qaconv.tlift.fit_inputs import check_pairs, check_sightings, check_tracks
from qaconv.tlift.neighbours import Neighbours
from qaconv.tlift.one_per_track import middle_sightings
from qaconv.tlift.pairs import Pairs, Returns, join_pairs
from qaconv.tlift.parameter_selection import Choice, Window, choose_parameters
from qaconv.tlift.probability import DrawnPairs, Strangers, exclude_companions, fit_match_odds
from qaconv.tlift.profile import TLiftProfile
from qaconv.tlift.return_times import ReturnTimes, fit_return_times
from qaconv.tlift.sampling import Sample, share_to_read
from qaconv.tlift.transit import TransitTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

log = logging.getLogger(__name__)

CONTROLS = 3  # fits with the times of each camera permuted
MIN_GAIN = 0.02  # nats for each confident match; with less, times carry no signal
MIN_RATIO = 3.0  # of the gain to that of the best control; with less, times carry no signal
MIN_MATCHES = 30  # mutual best matches with times
NO_TIMES = "no times: time is not used"
PURITY = 0.8  # expected share of right matches among those that co-movement and dwell are measured on
VISIT_SECONDS = 120.0  # sightings of one person on one camera within this are one visit


def fit_profile(
    neighbour_indices: ArrayLike | Table,
    neighbour_scores: ArrayLike | Table,
    camids: ArrayLike,
    times: ArrayLike,
    *,
    reranked: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    drawn: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    tracks: ArrayLike | None = None,
    known: Sequence[Finding] = (),
    cameras: Mapping[int, str] | None = None,
    time_origin: str = "",
    target: str = "",
    model: str = "",
    seed: int = 0,
) -> TLiftProfile:
    """Fit transit times, calibrations, lift parameters and match odds.

    The order of the sightings does not change the profile. Of more than ten million neighbours of all sightings a
    sample is read (`qaconv.tlift.sampling`).

    Args:
        neighbour_indices: nearest other sightings of each sighting by score, best first, [N, k]. Tables are read some
            rows at a time.
        neighbour_scores: their scores in [0, 1], [N, k].
        camids: [N].
        times: seconds on the camera's clock, NaN where unknown, [N].
        reranked: (one, other, score) of pairs of a query and its nearest by the re-ranker's score, each pair once, [S]
            each. Default: re-ranked scores are not calibrated.
        drawn: (one, other, score) of pairs of sightings that were drawn without regard to their scores, [S] each. They
            show how many pairs of each score are no neighbours. Default: the match odds hold for neighbours.
        tracks: name of each sighting's track, "" where there is none, [N]; of a track only the sighting in the middle
            of its time counts. Default: no tracks.
        known: clock faults that the order of recording has shown already.
        cameras: name of each camera by camid. Default: cameras are numbers.
        time_origin: UNIX_EPOCH where times are dates. Default: they are seconds on the cameras' clocks.
        target: name of the camera network.
        model: digest of the network whose scores these are.
        seed: seed of the sample, and of the random permutations of times that the fit is compared with. Default: 0.

    Raises:
        ValueError: shapes do not fit, a score is not in [0, 1], or a number is not that of a sighting.
        InputError: a time cannot be seconds.

    Example:
        >>> fit_profile([[1], [0]], [[0.9], [0.9]], camids=[0, 1], times=[10.0, 25.0]).reason
        '1 mutual best matches with a time on two cameras; at least 30 are needed'
    """
    camids, times = check_sightings(camids, times)
    sightings = len(camids)
    neighbours = Neighbours.check("neighbour", neighbour_indices, neighbour_scores, sightings)
    kept = middle_sightings(check_tracks(tracks, sightings), times)
    camids, times = camids[kept], times[kept]
    order = np.lexsort((*neighbours.best_scores(kept).T[::-1], np.nan_to_num(times), camids))
    numbers, camids, times = kept[order], camids[order], times[order]
    reranked_pairs = None if reranked is None else check_pairs("reranked", *reranked, sightings)
    drawn_pairs = None if drawn is None else check_pairs("drawn", *drawn, sightings)
    findings, used = check_clocks(camids, times)
    findings = [*known, *findings]
    description: dict[str, Any] = {
        "target": target,
        "model": model,
        "cameras": dict(cameras or {}),
        "time_origin": time_origin,
        "sightings": sha256(np.concatenate([camids, times]).tobytes()).hexdigest(),
        "camids": tuple(int(camid) for camid in np.unique(camids)),
        "span_s": (float(times[used].min()), float(times[used].max())) if used.any() else None,
    }
    if not np.isfinite(times).any():
        return TLiftProfile(**description, active=False, reason=NO_TIMES, findings=tuple(findings))
    filled = np.where(used, times, np.median(times[used]) if used.any() else 0.0)
    sample = _sample(neighbours, numbers, camids, filled, seed)
    pairs, returns, nearest, lowest = neighbours.gather(numbers, camids, filled, used, sample)
    if (mutual := int(pairs.mutual.sum())) < MIN_MATCHES:
        reason = f"{mutual} mutual best matches with a time on two cameras; at least {MIN_MATCHES} are needed"
        return TLiftProfile(**description, active=False, reason=reason, findings=tuple(findings))

    chosen = confident(pairs)
    times = filled
    mixture = fit_mixture(pairs, camids, times)
    ends = _renumbered(used, pairs.first, pairs.second)
    corrections, changes = find_clock_corrections(camids[used], times[used], *ends, mixture.prior)
    if corrections:
        times = np.where(used, correct_times(corrections, camids, times), times)
        mixture = fit_mixture(pairs, camids, times)
    findings += find_duplicates(camids, times, nearest)
    gain = mixture.gain(chosen)
    controls = _control_gains(pairs, camids, times, used, np.random.default_rng(seed))
    mixture, companions = include_companions(mixture, pairs, camids, times, sample.anchors)
    calibrations = {"direct": calibrate(pairs.score, mixture.posterior)}
    if reranked_pairs is not None:
        best_reranked = _join(_renumbered_pairs(reranked_pairs, numbers, sightings, used, camids), camids)
        likely = judge_by(mixture, best_reranked, camids, times)
        calibrations["reranked"] = calibrate(best_reranked.score, likely)
    window = sample.window or Window.choose(camids, times)
    choice = choose_parameters(pairs, mixture, calibrations["direct"], camids, times, window)
    active = gain > max(MIN_GAIN, MIN_RATIO * max(controls))
    odds, return_times = None, ReturnTimes()
    if active:
        others: DrawnPairs | Strangers | None = None
        if drawn_pairs is not None:
            others = _renumbered_pairs(drawn_pairs, numbers, sightings, used, camids)
            if not sample.is_everything:
                others = _strangers(others, neighbours.among(numbers, others.one, others.other), pairs, sample)
        odds = fit_match_odds(mixture, pairs, times, round(sightings * used.mean()), others)
        timed = returns.keep(used[returns.one] & used[returns.other])
        sampled = timed.keep(sample.anchors[timed.one])
        gaps = times[sampled.other] - times[sampled.one]
        return_times = fit_return_times(gaps, sampled.score, odds.calibration, camids[used], times[used])
        by_score = odds.calibration
        likeness = Likeness(timed, lowest, times, lambda score, gap: by_score(score) + return_times(gap))
        odds = exclude_companions(odds, mixture, pairs, camids, times, companions, likeness, others)
    returns = returns.keep(sample.anchors[returns.one])
    return TLiftProfile(
        **description,
        active=active,
        reason=f"held-out matches gain {gain:.2f} nats each from their times; with times permuted at most "
        f"{max(controls):.2f}" + ("" if active else ": time carries no signal that can be told from chance"),
        parameters=choice.parameters,
        transit=_transit_table(mixture),
        calibrations=calibrations,
        match_odds=odds,
        return_times=return_times,
        clocks=corrections if active else {},
        findings=tuple(findings + changes if active else findings),
        evidence=_evidence(pairs, mixture, returns, camids, times, choice, gain, controls, companions, seed, sample),
    )


def _sample(neighbours: Neighbours, numbers: Ints, camids: Ints, times: Floats, seed: int) -> Sample:
    """Choose the pairs that are read: all, or where these are too many, a sample.

    Args:
        neighbours: of the caller's sightings.
        numbers: of the fit's sightings among the caller's, in the order of camera and time, [n].
        camids: [n].
        times: [n] seconds.
        seed: of the sample.
    """
    share = share_to_read(len(numbers) * neighbours.indices.shape[1])
    if share == 1:
        return Sample.of_all(camids)
    counts = neighbours.count_by_cameras(numbers, camids)
    sample = Sample.draw(share, counts, camids, Window.choose(camids, times), seed)
    log.info("times are fitted to the pairs of %d of %d sightings", int(sample.anchors.sum()), len(numbers))
    return sample


def _join(pairs: DrawnPairs, camids: Ints) -> Pairs:
    """Join re-ranked pairs, none of which is mutual."""
    return join_pairs(*pairs, np.zeros(len(pairs.one), dtype=bool), camids)


def _strangers(drawn: DrawnPairs, are_neighbours: Bools, pairs: Pairs, sample: Sample) -> Strangers:
    """Take the drawn pairs that are no neighbours; the others show how many pairs each of them stands for."""
    sampled = sample.anchors[pairs.first] | sample.anchors[pairs.second]
    stand_for = float(sampled.sum()) / max(1, int(are_neighbours.sum()))
    return Strangers(drawn.score[~are_neighbours], stand_for, sampled)


def _renumbered_pairs(drawn: DrawnPairs, numbers: Ints, count: int, used: Bools, camids: Ints) -> DrawnPairs:
    """Number pairs on two cameras by the order of the fit, without sightings that it does not use.

    Args:
        drawn: numbered as the caller's sightings.
        numbers: of the fit's sightings among the caller's, [n].
        count: number of the caller's sightings.
        used: whether a sighting's time is used, [n].
        camids: [n].
    """
    position = np.full(count, -1)
    position[numbers] = np.where(used, np.arange(len(numbers)), -1)
    one, other = position[drawn.one], position[drawn.other]
    inside = (one >= 0) & (other >= 0)
    inside[inside] = camids[one[inside]] != camids[other[inside]]
    return DrawnPairs(one[inside], other[inside], drawn.score[inside])


def _renumbered(used: Bools, first: Ints, second: Ints) -> tuple[Ints, Ints]:
    position = np.cumsum(used) - 1
    return position[first], position[second]


def _control_gains(pairs: Pairs, camids: Ints, times: Floats, used: Bools, rng: np.random.Generator) -> list[float]:
    """Gains of the same fit with the times of each camera permuted."""
    gains = []
    for _ in range(CONTROLS):
        permuted = times.copy()
        for camid in np.unique(camids):
            rows = np.flatnonzero((camids == camid) & used)
            permuted[rows] = times[rng.permutation(rows)]
        gains.append(fit_mixture(pairs, camids, permuted).gain(confident(pairs)))
    return gains


def _transit_table(mixture: Mixture) -> TransitTable:
    centres = [None if np.isnan(centre) else round(float(centre), 3) for centre in mixture.axis.centres]
    return TransitTable(centres, float(mixture.axis.reach), np.round(np.log(mixture.ratio), 3).tolist())


def _evidence(
    pairs: Pairs,
    mixture: Mixture,
    returns: Returns,
    camids: Ints,
    times: Floats,
    choice: Choice,
    gain: float,
    controls: list[float],
    companions: float,
    seed: int,
    sample: Sample,
) -> dict[str, Any]:
    cut = _score_cut(pairs, mixture)
    kept = pairs.mutual & (pairs.score >= cut)
    apart = np.abs(times[returns.other] - times[returns.one])
    same_visit = returns.keep((apart < VISIT_SECONDS) & (returns.score >= cut))
    neighbours = _share_with_neighbours(camids, times, choice.parameters.tau_s)
    return {
        "gain_nats": round(gain, 4),
        "control_nats": [round(control, 4) for control in controls],
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
        "dwell_s": _dwell(times, same_visit),
        "comovement": asdict(_comovement(pairs, kept, mixture, same_visit, times, seed)),
        **({} if sample.is_everything else {"sampled_sightings": int(sample.anchors.sum())}),
    }


def _matches_by_pair(pairs: Pairs, mixture: Mixture) -> list[float]:
    """Expected number of right mutual matches between two cameras, [P]."""
    likely = np.where(pairs.mutual, mixture.posterior, 0.0)
    matches = np.bincount(mixture.pair, likely, minlength=len(mixture.axis.centres))
    return [float(count) for count in np.round(matches, 1)]


def _score_cut(pairs: Pairs, mixture: Mixture) -> float:
    """Lowest score above which mutual matches have the expected purity PURITY."""
    order = np.flatnonzero(pairs.mutual)[np.argsort(-pairs.score[pairs.mutual], kind="stable")]
    purity = np.cumsum(mixture.posterior[order]) / np.arange(1, len(order) + 1)
    pure = np.flatnonzero(purity >= PURITY)
    return float(pairs.score[order[pure[-1]]]) if len(pure) else float(pairs.score[order[0]])


def _share_with_neighbours(camids: Ints, times: Floats, tau: float) -> dict[str, float]:
    """Share of each camera's sightings with another of them within tau, by camera."""
    order = np.lexsort((times, camids))
    close = (np.diff(times[order]) < tau) & (np.diff(camids[order]) == 0)
    shared = np.append(close, False) | np.insert(close, 0, False)
    return {str(camid): round(float(shared[camids[order] == camid].mean()), 3) for camid in np.unique(camids)}


def _dwell(times: Floats, same_visit: Returns) -> list[float] | None:
    """Median and 0.9 quantile of the seconds between sightings of one visit."""
    if not len(same_visit.one):
        return None
    apart = np.abs(times[same_visit.other] - times[same_visit.one])
    return [float(quantile) for quantile in np.round(np.quantile(apart, [0.5, 0.9]), 2)]


def _comovement(
    pairs: Pairs, kept: Bools, mixture: Mixture, same_visit: Returns, times: Floats, seed: int
) -> CoMovement:
    """Measure co-movement; sightings that a match or a visit joins count as one person."""
    one = np.concatenate([pairs.first[kept], same_visit.one])
    other = np.concatenate([pairs.second[kept], same_visit.other])
    joined = coo_array((np.ones(len(one)), (one, other)), shape=(len(times), len(times)))
    _, person = connected_components(joined, directed=False)
    first, second = pairs.first[kept], pairs.second[kept]
    duration = times[second] - times[first]
    return measure_comovement(mixture.pair[kept], times[first], duration, person[first], np.random.default_rng(seed))
