"""Map the log odds of pairs to those that are stated, by the identities of the pairs' sightings.

m pairs in a block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

REACH = 9.0  # log odds; pairs beyond are in the outermost bins
WIDTH = 0.5  # of a bin
DOUBT = 10.0  # pairs of each bin that are as the fit says; docs/tlift.md says where it was chosen
LEAST_PAIRS = 30  # of one identity: with fewer, the shares of the bins are chance
SHARES = (1e-5, 0.999)  # lowest and highest share that is believed
SLOPE = 1e-3  # smallest rise from knot to knot, so that two different odds never become one


@dataclass(frozen=True)
class OddsMap:
    """Log odds that are stated by those of the fit, linear between knots.

    Attributes:
        knots: log odds of the fit, ascending.
        log_odds: stated at the knots, ascending.

    Example:
        >>> OddsMap([-4.0, 4.0], [-6.0, 2.0])(np.array([-5.0, 0.0, 4.0]))
        array([-7., -2.,  2.])
    """

    knots: Sequence[float]
    log_odds: Sequence[float]

    def __call__(self, log_odds: Floats) -> Floats:
        """Return the stated log odds, of any shape; outside the knots with the average slope between them."""
        low, high = self.knots[0], self.knots[-1]
        slope = (self.log_odds[-1] - self.log_odds[0]) / (high - low)
        outside = np.maximum(log_odds - high, 0) + np.minimum(log_odds - low, 0)
        stated: Floats = np.interp(log_odds, self.knots, self.log_odds) + slope * outside
        return stated

    def moved(self, before: tuple[float, float], after: tuple[float, float]) -> "OddsMap":
        """Return the map of log odds that lines correct, to stated ones that a line corrects.

        Args:
            before: scale, above 0, and offset of the odds that are mapped.
            after: scale, above 0, and offset of the stated ones.
        """
        knots, log_odds = (
            (scale * np.asarray(values) + offset).tolist()
            for values, (scale, offset) in ((self.knots, before), (self.log_odds, after))
        )
        return OddsMap(knots, log_odds)


def fit_odds_map(blocks: Iterable[tuple[Floats, Bools]]) -> OddsMap | None:
    """Fit the share of pairs of one identity by isotonic regression over bins of log odds.

    Args:
        blocks: log odds of pairs, and whether both sightings are of one identity, [m] each.

    Returns:
        None where fewer than LEAST_PAIRS pairs are of one identity, or all pairs have the same odds.
    """
    bins = round(2 * REACH / WIDTH)
    counts, sums, together = np.zeros((3, bins))
    for log_odds, same in blocks:
        number = np.clip((log_odds + REACH) // WIDTH, 0, bins - 1).astype(np.intp)
        counts += np.bincount(number, minlength=bins)
        sums += np.bincount(number, log_odds, minlength=bins)
        together += np.bincount(number, same, minlength=bins)
    filled = counts > 0
    if together.sum() < LEAST_PAIRS or filled.sum() < 2:
        return None
    counts, together = counts[filled], together[filled]
    knots = sums[filled] / counts
    weights = counts + DOUBT
    share = isotonic_regression((together + DOUBT * expit(knots)) / weights, weights=weights).x
    log_odds = logit(np.clip(share, *SHARES)) + SLOPE * np.arange(len(share))
    return OddsMap(np.round(knots, 6).tolist(), np.round(log_odds, 6).tolist())
