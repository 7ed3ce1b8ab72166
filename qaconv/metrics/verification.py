"""Measure verification: how well a threshold on the score separates pairs of one person from pairs of two.

A match is a pair of images of one person that the ranking protocol counts; all other pairs are of two people. A pair
is accepted if its score is above the threshold. Q queries, G gallery images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.metrics.order_statistics import find_highest
from qaconv.metrics.sightings import SameCamera, Sightings
from qaconv.tables import Table

FALSE_MATCH_RATES = (1e-2, 1e-3, 1e-4)  # usual in tables


@dataclass(frozen=True)
class VerificationMetrics:
    """Verification metrics, exact for any number of pairs.

    Attributes:
        false_match_rates: requested rates, in (0, 1).
        thresholds: the lowest score that keeps each rate.
        true_match_rates: share of matches above each threshold.
        matches: number of pairs of one person.
        others: number of pairs of two people; a rate below 10 / others depends on a few of them.
        roc: false and true match rate, ascending, with each match's score as the lowest accepted one, [2, matches].
    """

    false_match_rates: tuple[float, ...]
    thresholds: tuple[float, ...]
    true_match_rates: tuple[float, ...]
    matches: int
    others: int
    roc: NDArray[np.float64]


def evaluate_verification(
    scores: ArrayLike | Table,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    false_match_rates: Sequence[float] = FALSE_MATCH_RATES,
    same_camera: SameCamera = "drop",
) -> VerificationMetrics:
    """Compare every pair with thresholds at given false match rates.

    Memory: the scores of all matches, and one block of pairs.

    Args:
        scores: [Q, G]; higher is a better match.
        query_pids: [Q].
        gallery_pids: [G].
        query_camids: [Q].
        gallery_camids: [G].
        false_match_rates: in (0, 1). Default: FALSE_MATCH_RATES.
        same_camera: as in `evaluate_ranking`. Default: "drop".

    Raises:
        ValueError: shapes do not fit, a score is not a finite number, a rate is not in (0, 1), or pairs of one person
            or of two people are missing.
    """
    if not all(0 < rate < 1 for rate in false_match_rates):
        raise ValueError(f"false_match_rates must be in (0, 1), got {tuple(false_match_rates)}")
    sightings = Sightings(scores, query_pids, gallery_pids, query_camids, gallery_camids)
    match_blocks, others = [], 0
    for block in sightings.pairs(same_camera):
        match_blocks.append(block.match)
        others += len(block.other)
    matches = np.sort(np.concatenate(match_blocks))
    if not len(matches) or not others:
        raise ValueError(f"pairs of one person and of two people must exist, got {len(matches)} and {others}")

    accepted = np.zeros(len(matches), dtype=np.int64)
    for block in sightings.pairs(same_camera):
        accepted += len(block.other) - np.sort(block.other).searchsorted(matches)
    ranks = [int(rate * others) for rate in false_match_rates]
    thresholds = find_highest(lambda: (block.other for block in sightings.pairs(same_camera)), ranks)
    return VerificationMetrics(
        tuple(false_match_rates),
        tuple(thresholds),
        tuple(float((matches > threshold).mean()) for threshold in thresholds),
        len(matches),
        others,
        _roc(matches, accepted, others),
    )


def _roc(matches: NDArray[Any], accepted: NDArray[np.int64], others: int) -> NDArray[np.float64]:
    """ROC [2, matches] of ascending `matches`; equal scores are accepted together."""
    right = (len(matches) - matches.searchsorted(matches)) / len(matches)
    return np.stack([accepted / others, right])[:, ::-1]
