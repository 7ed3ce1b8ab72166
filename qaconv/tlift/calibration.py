"""Calibrate scores: the log odds that a pair of some score shows one person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import logit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_BIN = 20.0  # pairs in the bin of the best scores
GROWTH = 1.25  # ratio of the sizes of two bins in a row
MIN_MATCHES = 5.0  # expected pairs of one person in a bin: with fewer, its share of matches is chance
SLOPE = 1e-3  # smallest rise of the log odds from knot to knot, so that two scores never become one
CLIP = 1e-12  # scores are kept this far from 0 and 1


@dataclass(frozen=True)
class Calibration:
    """Log odds that a pair shows one person, linear between knots.

    Attributes:
        knots: logit of scores, ascending.
        log_odds: at the knots, ascending.
    """

    knots: Sequence[float]
    log_odds: Sequence[float]

    def __call__(self, scores: Floats) -> Floats:
        """Return the log odds of scores in [0, 1]; outside the knots with the average slope between them."""
        x = logit(np.clip(scores, CLIP, 1 - CLIP))
        low, high = self.knots[0], self.knots[-1]
        slope = (self.log_odds[-1] - self.log_odds[0]) / (high - low)
        inside = np.interp(x, self.knots, self.log_odds)
        log_odds: Floats = inside + slope * (np.maximum(x - high, 0) + np.minimum(x - low, 0))
        return log_odds


def calibrate(scores: Floats, likely: Floats, weights: Floats | None = None) -> Calibration:
    """Fit by isotonic regression over bins that are smallest for the best scores.

    Args:
        scores: [M] in [0, 1], with at least two different values.
        likely: probability that each pair shows one person, [M].
        weights: number of pairs that each stands for, [M]. Default: 1.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    weight, matches_of = weights[order], (weights * likely)[order]
    x = logit(np.clip(scores[order], CLIP, 1 - CLIP))
    sizes = FIRST_BIN * GROWTH ** np.arange(2 + np.log1p(len(x) / FIRST_BIN) / np.log(GROWTH))
    starts = np.concatenate([[0], np.cumsum(sizes).astype(int)])
    matches_before = np.concatenate([[0], np.cumsum(matches_of)])
    starts = _join_bins(starts[starts < len(x)], matches_before)
    counts = np.add.reduceat(weight, starts)
    knots = np.add.reduceat(weight * x, starts) / counts
    matches = np.add.reduceat(matches_of, starts)
    share = isotonic_regression((matches + 0.01) / (counts + 1.0), weights=counts, increasing=False).x
    log_odds = logit(np.clip(share, 1e-5, 0.999))[::-1] + SLOPE * np.arange(len(share))
    knots, first = np.unique(np.round(knots[::-1], 6), return_index=True)
    if len(knots) == 1:
        knots = np.array([knots[0] - 1, knots[0] + 1])
        log_odds = np.array([-1.0, 1.0])
        first = np.array([0, 1])
    return Calibration(knots.tolist(), np.round(log_odds[first], 6).tolist())


def _join_bins(starts: Ints, matches_before: Floats) -> Ints:
    """Join bins, from the best scores on, until each has MIN_MATCHES."""
    kept = [0]
    for start in starts[1:]:
        matches = matches_before[start] - matches_before[kept[-1]]
        matches_after = matches_before[-1] - matches_before[start]
        if min(matches, matches_after) >= MIN_MATCHES:
            kept.append(int(start))
    return np.array(kept)
