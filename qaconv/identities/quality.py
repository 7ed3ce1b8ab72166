"""Estimate how good matches and identities are, without labels, and check how far the estimates can be trusted.

N sightings, k neighbours of each, E pairs, S drawn pairs; D draws of who is on each sighting (`draws.py`).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.identities.graph import Edges, find_edges
from qaconv.identities.summary import Half, Interval, Precision, Trust
from qaconv.tables import Table, as_scores
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.one_per_track import neighbours_among

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
People = NDArray[np.int32]

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)  # probabilities of pairs
EVEN = 0.1  # weight of the pairs that a draw says are wrong, against those that are unlikely; fitted on drawn sites
WIDER = 3.0  # factor of the intervals of precision, with which they hold the truth on drawn sites
TINY = 1e-9  # smallest number of unlikely pairs
SEED = 0  # of the permutation of times


def estimate_precision(edges: Edges, identity: Ints, camid: Ints, people: People) -> tuple[Precision, ...]:
    """Estimate the share of right ones among the pairs on two cameras above each of THRESHOLDS; none without pairs.

    A draw says how many pairs of an identity are wrong. Which ones they are, it says in part (EVEN); for the rest they
    are wrong the more often the less likely they are.

    Args:
        edges: pairs with their odds, [E].
        identity: of each sighting, [N].
        camid: of each sighting, [N].
        people: person on each sighting by draw, [D, N].
    """
    _, group = np.unique(identity, return_inverse=True)
    likely = expit(edges.log_odds)
    within = np.flatnonzero(group[edges.first] == group[edges.second])
    inside = group[edges.first[within]]
    unlikely = 1 - likely[within]
    total = np.bincount(inside, unlikely)
    thresholds = [threshold for threshold in THRESHOLDS if len(pairs_above(edges, camid, threshold))]
    chosen = [pairs_above(edges, camid, threshold) for threshold in thresholds]
    shares = []
    for person in people:
        right = (person[edges.first] == person[edges.second]).astype(np.float64)
        wrong = np.bincount(inside, 1 - right[within]) / np.maximum(total, TINY)
        by_odds = 1 - np.minimum(wrong[inside] * unlikely, 1)
        right[within] = EVEN * right[within] + (1 - EVEN) * by_odds
        shares.append([right[rows].mean() for rows in chosen])
    estimates = []
    for threshold, rows, drawn in zip(thresholds, chosen, np.array(shares).T, strict=True):
        value = float(drawn.mean())
        interval = Interval.around(value, np.clip(value + WIDER * (drawn - value), 0, 1))
        estimates.append(Precision(threshold=threshold, pairs=len(rows), **interval.model_dump()))
    return tuple(estimates)


def pairs_above(edges: Edges, camid: Ints, threshold: float) -> Ints:
    """Return the numbers of the pairs on two cameras whose probability is above a threshold."""
    across = camid[edges.first] != camid[edges.second]
    return np.flatnonzero(across & (expit(edges.log_odds) > threshold))


def estimate_found(identity: Ints, camid: Ints, people: People) -> Interval:
    """Estimate the share of sightings joined with a right one on another camera, of those that have one.

    Args:
        identity: of each sighting, [N].
        camid: [N].
        people: person on each sighting by draw, [D, N].
    """
    shares = []
    for person in people:
        has_other = _is_on_two_cameras(person.astype(np.int64), camid)
        joined = _is_on_two_cameras(_pair(person.astype(np.int64), identity), camid)
        shares.append(float(joined.sum() / max(1, has_other.sum())))
    return Interval.around(float(np.mean(shares)), shares)


def estimate_purity(identity: Ints, people: People) -> Interval:
    """Estimate the share of sightings that show the person most frequent in their identity.

    Args:
        identity: of each sighting, [N].
        people: person on each sighting by draw, [D, N].
    """
    _, group = np.unique(identity, return_inverse=True)
    shares = []
    for person in people:
        parts, counts = np.unique(_pair(group, person), return_counts=True)
        most = np.zeros(group.max(initial=0) + 1, dtype=np.int64)
        np.maximum.at(most, parts // (int(person.max()) + 1), counts)
        shares.append(float(most.sum() / len(group)))
    return Interval.around(float(np.mean(shares)), shares)


def check_trust(
    sightings: pd.DataFrame,
    neighbours: Table,
    logits: Table,
    profile: TLiftProfile,
    drawn: tuple[Ints, Ints, Floats],
) -> Trust:
    """Compare the odds with those of a profile of other hours, and with those of times that mean nothing.

    Args:
        sightings: camid, time_s and track of each, [N].
        neighbours: numbers of each sighting's nearest others, [N, k].
        logits: with them, [N, k].
        profile: of the target, with match odds.
        drawn: (one, other, score) of pairs drawn without regard to their scores, [S] each, as `fit_profile` takes them.
    """
    halves = [_Half(rows, sightings, neighbours, logits, drawn) for rows in _halves(sightings)]
    expected = _expected_matches(find_edges(neighbours, logits, sightings, profile), sightings, profile)
    permuted = sightings.assign(time_s=_permute_times(sightings))
    control = _expected_matches(find_edges(neighbours, logits, permuted, profile), permuted, profile)
    return Trust(halves=_compare(*halves), kept_with_permuted_times=control / max(expected, 1.0))


class _Half:
    """Sightings of half of the time, with a profile fitted on them alone."""

    def __init__(
        self,
        rows: Ints,
        sightings: pd.DataFrame,
        neighbours: Table,
        logits: Table,
        drawn: tuple[Ints, Ints, Floats],
    ) -> None:
        self.sightings = sightings.iloc[rows].reset_index(drop=True)
        self.neighbours, self.logits = neighbours_among(rows, neighbours, logits, missing=-np.inf)
        position = np.full(len(sightings), -1)
        position[rows] = np.arange(len(rows))
        one, other = position[drawn[0]], position[drawn[1]]
        inside = (one >= 0) & (other >= 0)
        self.profile = fit_profile(
            self.neighbours,
            as_scores(self.logits),
            self.sightings["camid"],
            self.sightings["time_s"],
            drawn=(one[inside], other[inside], drawn[2][inside]),
            tracks=self.sightings["track"],
        )

    def edges(self, profile: TLiftProfile) -> Edges:
        """Return the pairs with the odds of a profile."""
        return find_edges(self.neighbours, self.logits, self.sightings, profile)


def _halves(sightings: pd.DataFrame) -> Iterator[Ints]:
    """Yield the rows of the earlier and of the later half of the sightings with times."""
    time_s = sightings["time_s"].to_numpy(np.float64)
    middle = np.nanmedian(time_s)
    yield np.flatnonzero(time_s <= middle)
    yield np.flatnonzero(time_s > middle)


def _compare(first: _Half, second: _Half) -> tuple[Half, ...]:
    """Judge the pairs of each half by both profiles; none where a profile has no odds, or not the same cameras."""
    profiles = first.profile, second.profile
    if None in (first.profile.match_odds, second.profile.match_odds) or profiles[0].camids != profiles[1].camids:
        return ()
    halves = []
    for half, other in ((first, second), (second, first)):
        edges = _matches(half.edges(half.profile), half.sightings, half.profile)
        if not len(edges):
            return ()
        judged = half.edges(other.profile)
        count = len(half.sightings)
        keys, wanted = (pairs.first * count + pairs.second for pairs in (judged, edges))
        position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        held_out = np.where(keys[position] == wanted, expit(judged.log_odds[position]), 0.0)
        halves.append(
            Half(pairs=len(edges), precision=float(expit(edges.log_odds).mean()), held_out=float(held_out.mean()))
        )
    return tuple(halves)


def _matches(edges: Edges, sightings: pd.DataFrame, profile: TLiftProfile) -> Edges:
    """Return the pairs on two cameras that the profile calls a match."""
    odds, camid = profile.match_odds, sightings["camid"].to_numpy()
    assert odds
    return edges.keep(
        (camid[edges.first] != camid[edges.second]) & (expit(odds.stated(edges.log_odds)) > odds.threshold)
    )


def _expected_matches(edges: Edges, sightings: pd.DataFrame, profile: TLiftProfile) -> float:
    return float(expit(_matches(edges, sightings, profile).log_odds).sum())


def _permute_times(sightings: pd.DataFrame) -> Floats:
    """Return the times, permuted among the sightings of each camera, [N]."""
    rng = np.random.default_rng(SEED)
    camid, time_s = sightings["camid"].to_numpy(), sightings["time_s"].to_numpy(np.float64)
    permuted = time_s.copy()
    for camera in np.unique(camid):
        rows = np.flatnonzero(camid == camera)
        permuted[rows] = time_s[rng.permutation(rows)]
    return permuted


def _is_on_two_cameras(group: Ints, camid: Ints) -> NDArray[np.bool_]:
    """Whether the group of each sighting was seen by two cameras, [N]."""
    _, number = np.unique(group, return_inverse=True)
    cameras = int(camid.max()) + 1
    seen = np.unique(number * cameras + camid) // cameras
    two: NDArray[np.bool_] = (np.bincount(seen) > 1)[number]
    return two


def _pair(first: Ints, second: Ints | People) -> Ints:
    """Return a number for each pair of values, [N]."""
    pairs: Ints = first * (int(second.max()) + 1) + second
    return pairs
