"""Scores and how likely each shows one person go in; a rising curve from a score to its odds comes out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import logit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_BIN, GROWTH = 20.0, 1.25  # pairs in the bin of the best scores, and how the next ones grow
FEWEST_FOUND = 5.0  # pairs of one person that a bin holds: the share of a bin in which fewer were found may be any
SLOPE = 1e-3  # least rise of the log odds from knot to knot, so that two scores never become one
CLIP = 1e-12  # a score this close to 0 or 1 counts as this close


@dataclass(frozen=True)
class Calibration:
    """Log odds that a pair of some score shows one person, straight between knots.

    Attributes:
        knots: logit of scores, ascending.
        log_odds: at the knots, ascending.
    """

    knots: Sequence[float]
    log_odds: Sequence[float]

    def __call__(self, scores: Floats) -> Floats:
        """Log odds of scores in [0, 1]; beyond the outer knots as steep as on average between them."""
        x = logit(np.clip(scores, CLIP, 1 - CLIP))
        low, high = self.knots[0], self.knots[-1]
        steep = (self.log_odds[-1] - self.log_odds[0]) / (high - low)
        inside = np.interp(x, self.knots, self.log_odds)
        return inside + steep * (np.maximum(x - high, 0) + np.minimum(x - low, 0))


def calibrate(scores: Floats, likely: Floats) -> Calibration:
    """Isotonic regression over bins that are finest where scores are best.

    Args:
        scores: [M] in [0, 1], of two values at least.
        likely: [M] in [0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    x = logit(np.clip(scores[order], CLIP, 1 - CLIP))
    sizes = FIRST_BIN * GROWTH ** np.arange(2 + np.log1p(len(x) / FIRST_BIN) / np.log(GROWTH))
    starts = np.concatenate([[0], np.cumsum(sizes).astype(int)])
    found_before = np.concatenate([[0], np.cumsum(likely[order])])
    starts = _joined(starts[starts < len(x)], found_before)
    counts = np.diff(np.append(starts, len(x)))
    knots, found = np.add.reduceat(x, starts) / counts, np.add.reduceat(likely[order], starts)
    share = isotonic_regression((found + 0.01) / (counts + 1.0), weights=counts.astype(float), increasing=False).x
    log_odds = logit(np.clip(share, 1e-5, 0.999))[::-1] + SLOPE * np.arange(len(share))
    knots, first = np.unique(np.round(knots[::-1], 6), return_index=True)
    if len(knots) == 1:
        knots, log_odds, first = np.array([knots[0] - 1, knots[0] + 1]), np.array([-1.0, 1.0]), np.array([0, 1])
    return Calibration(knots.tolist(), np.round(log_odds[first], 6).tolist())


def _joined(starts: Ints, found_before: Floats) -> Ints:
    """Starts of bins, joined from the best on until each holds enough that was found."""
    kept = [0]
    for start in starts[1:]:
        if min(found_before[start] - found_before[kept[-1]], found_before[-1] - found_before[start]) >= FEWEST_FOUND:
            kept.append(int(start))
    return np.array(kept)
