"""Scores and who was really seen go in; how well a threshold tells one person from two comes out.

A match is a pair of images of one person, in the sense of the ranking protocol; every other pair is of two people.
Two images are taken for one person if their score is above the threshold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.metrics.sightings import PairScores, SameCamera, Sightings

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4)  # of the usual tables


@dataclass(frozen=True)
class VerificationMetrics:
    """How often a threshold is right; exact, whatever the number of pairs.

    Attributes:
        false_match_rates: wanted ones, in (0, 1).
        thresholds: for each, the lowest score such that no larger share of other pairs is above it.
        true_match_rates: for each, the share of matches above the threshold.
        matches: pairs of one person.
        others: pairs of two people; a rate below 10 / others rests on a handful of them.
        roc: [2, matches], false and true match rate, rising, with each match's score as the lowest that is accepted.
    """

    false_match_rates: tuple[float, ...]
    thresholds: tuple[float, ...]
    true_match_rates: tuple[float, ...]
    matches: int
    others: int
    roc: NDArray[np.float64]


def evaluate_verification(
    scores: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    false_match_rates: Sequence[float] = FALSE_MATCH_RATES,
    same_camera: SameCamera = "drop",
) -> VerificationMetrics:
    """Decides on every pair of `scores` [Q, G], higher is a better match.

    Memory: the scores of all matches, the highest of the other pairs as far as the largest wanted rate reaches, and
    one block of pairs.

    Raises:
        ValueError: shapes do not fit, a score is not a number, a rate is not in (0, 1), or a kind of pair is missing.
    """
    if not all(0 < rate < 1 for rate in false_match_rates):
        raise ValueError(f"false_match_rates are {tuple(false_match_rates)}; legal are numbers in (0, 1)")
    seen = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    found, others = [], 0
    for block in seen.pairs(same_camera):
        found.append(block.match)
        others += len(block.other)
    matches = np.sort(np.concatenate(found))
    if not len(matches) or not others:
        raise ValueError(f"there are {len(matches)} pairs of one person and {others} of two; legal is some of each")

    allowed = [int(rate * others) for rate in false_match_rates]
    accepted, highest = _look_through(seen.pairs(same_camera), matches, keep=max(allowed) + 1)
    thresholds = [float(highest[-1 - count]) for count in allowed]
    return VerificationMetrics(
        tuple(false_match_rates),
        tuple(thresholds),
        tuple(float((matches > threshold).mean()) for threshold in thresholds),
        len(matches),
        others,
        _roc(matches, accepted, others),
    )


def _look_through(pairs: Iterable[PairScores], matches: NDArray, keep: int) -> tuple[NDArray[np.int64], NDArray]:
    """How many other pairs score at least as high as each of `matches`, and the `keep` highest of them, rising."""
    accepted, highest = np.zeros(len(matches), dtype=np.int64), np.empty(0, dtype=matches.dtype)
    for block in pairs:
        others = np.sort(block.other)
        accepted += len(others) - others.searchsorted(matches)
        highest = np.sort(np.concatenate([highest, others[-keep:]]))[-keep:]
    return accepted, highest


def _roc(matches: NDArray, accepted: NDArray[np.int64], others: int) -> NDArray[np.float64]:
    """[2, matches] of `matches` in rising order; equal ones are accepted together."""
    right = (len(matches) - matches.searchsorted(matches)) / len(matches)
    return np.stack([accepted / others, right])[:, ::-1]
