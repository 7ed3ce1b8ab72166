"""Calibrate logits to probabilities, and measure how reliable the probabilities are.

A probability depends on the share of matches among the compared pairs: small in a gallery, large in a shortlist. So
the fit gives log odds at even odds, and the user supplies the prior. Fit and measure give the matches together the same
weight as all other pairs together, which are even odds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from qaconv.metrics.sightings import PairScores

BINS = 15  # of equal width in the reliability table (Guo et al., ICML 2017)


@dataclass(frozen=True)
class Calibration:
    """Probability of one person = sigmoid(scale * logit + offset + log(prior / (1 - prior))) (Platt, 1999).

    Attributes:
        scale: at least 0, so that a higher logit never has a lower probability.
        offset: log odds of the logit 0 at even odds.
        matches: number of pairs of one person in the fit.
        others: number of pairs of two people in the fit.
    """

    scale: float
    offset: float
    matches: int
    others: int

    def probability(self, logits: ArrayLike, *, prior: float = 0.5) -> NDArray[np.float64]:
        """Return the probabilities of logits of any shape.

        Args:
            logits: of pairs.
            prior: share of matches among the compared pairs, in (0, 1). Default: 0.5.

        Raises:
            ValueError: the prior is not in (0, 1).
        """
        if not 0 < prior < 1:
            raise ValueError(f"prior must be in (0, 1), got {prior}")
        probabilities: NDArray[np.float64] = expit(
            self.scale * np.asarray(logits, dtype=np.float64) + self.offset + logit(prior)
        )
        return probabilities


def fit_calibration(match_logits: NDArray[Any], other_logits: NDArray[Any]) -> Calibration:
    """Fit scale and offset by maximum likelihood, with Platt's softened targets, which keep them finite.

    Args:
        match_logits: of pairs of one person.
        other_logits: of pairs of two people.

    Raises:
        ValueError: one of the two is empty.
    """
    kinds = [np.asarray(logits, dtype=np.float64) for logits in (match_logits, other_logits)]
    matches, others = map(len, kinds)
    if not matches or not others:
        raise ValueError(f"pairs of one person and of two people must exist, got {matches} and {others}")
    logits = np.concatenate(kinds)
    spread = float(logits.std()) or 1.0
    values = (logits - logits.mean()) / spread
    targets = np.repeat([(matches + 1) / (matches + 2), 1 / (others + 2)], [matches, others])
    weights = np.repeat([0.5 / matches, 0.5 / others], [matches, others])

    def loss(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = line[0] * values + line[1]
        slope = weights * (expit(odds) - targets)
        entropy = -weights @ (targets * log_expit(odds) + (1 - targets) * log_expit(-odds))
        return float(entropy), np.array([slope @ values, slope.sum()])

    result = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    scale = result.x[0] / spread
    return Calibration(float(scale), float(result.x[1] - scale * logits.mean()), matches, others)


@dataclass(frozen=True)
class Reliability:
    """Reliability of a calibration on known pairs, at even odds.

    Attributes:
        error: expected calibration error in [0, 1]: mean distance of a bin's probability from its share of matches.
        table: a row for each bin that is not empty: mean probability, share of matches, and weight.
    """

    error: float
    table: pd.DataFrame


def measure_reliability(calibration: Calibration, pairs: Iterable[PairScores]) -> Reliability:
    """Compare probabilities with known pairs.

    Args:
        calibration: fitted.
        pairs: blocks of pairs.

    Raises:
        ValueError: pairs of one person or of two people are missing.
    """
    counts, sums = np.zeros((2, BINS)), np.zeros((2, BINS))
    for block in pairs:
        for kind, logits in enumerate(block):
            probabilities = calibration.probability(logits)
            bins = np.minimum((probabilities * BINS).astype(np.intp), BINS - 1)
            counts[kind] += np.bincount(bins, minlength=BINS)
            sums[kind] += np.bincount(bins, probabilities, minlength=BINS)
    totals = counts.sum(axis=1, keepdims=True)
    if not totals.all():
        raise ValueError(
            f"pairs of one person and of two people must exist, got {int(totals[0, 0])} and {int(totals[1, 0])}"
        )
    weights = counts / totals / 2
    weight = weights.sum(axis=0)
    filled = weight > 0
    probability = (sums / totals / 2).sum(axis=0)[filled] / weight[filled]
    share = weights[0, filled] / weight[filled]
    table = pd.DataFrame({"probability": probability, "share": share, "weight": weight[filled]})
    return Reliability(float(weight[filled] @ np.abs(probability - share)), table)
