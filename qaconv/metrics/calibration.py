"""Logits of pairs and what they were go in; a probability that means what it says comes out, and how far it is off.

A probability depends on how common matches are among the pairs that are compared: among a gallery's images few are,
among a shortlist many. So what is fitted is the evidence of a logit, as a log-odds at even odds, and the prior is the
user's to say. Fitted and measured with matches weighing as much as all other pairs together, which is even odds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from qaconv.metrics.sightings import PairScores

BINS = 15  # of the reliability table, equally wide (Guo et al., ICML 2017)


@dataclass(frozen=True)
class Calibration:
    """Probability of one person = sigmoid(scale * logit + offset + log(prior / (1 - prior))) (Platt, 1999).

    Attributes:
        scale: not negative, so that a higher logit is never a lower probability.
        offset: log-odds of a logit of 0 at even odds.
        matches: pairs of one person that it was fitted on.
        others: pairs of two people that it was fitted on.
    """

    scale: float
    offset: float
    matches: int
    others: int

    def probability(self, logits: ArrayLike, *, prior: float = 0.5) -> NDArray[np.float64]:
        """Logits of any shape to probabilities.

        Args:
            logits: of pairs.
            prior: the share of matches among the pairs that are compared, in (0, 1).

        Raises:
            ValueError: the prior is not in (0, 1).
        """
        if not 0 < prior < 1:
            raise ValueError(f"prior is {prior}; legal is a number in (0, 1)")
        return expit(self.scale * np.asarray(logits, dtype=np.float64) + self.offset + logit(prior))


def fit_calibration(match_logits: NDArray, other_logits: NDArray) -> Calibration:
    """The likeliest scale and offset, with Platt's softened targets: pairs told apart without error stay finite.

    Raises:
        ValueError: a kind of pair is missing.
    """
    kinds = [np.asarray(logits, dtype=np.float64) for logits in (match_logits, other_logits)]
    matches, others = map(len, kinds)
    if not matches or not others:
        raise ValueError(f"there are {matches} pairs of one person and {others} of two; legal is some of each")
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

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    scale = found.x[0] / spread
    return Calibration(float(scale), float(found.x[1] - scale * logits.mean()), matches, others)


@dataclass(frozen=True)
class Reliability:
    """How a calibration does on pairs with a known answer, at even odds.

    Attributes:
        error: expected calibration error in [0, 1]: mean distance of a bin's probability from its share of matches.
        table: a row a bin: probability (its mean), share (of matches) and weight (of the bin); empty bins are left out.
    """

    error: float
    table: pd.DataFrame


def measure_reliability(calibration: Calibration, pairs: Iterable[PairScores]) -> Reliability:
    """Compares probabilities with what the pairs were, a block of them at a time.

    Raises:
        ValueError: a kind of pair is missing.
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
            f"there are {int(totals[0, 0])} pairs of one person and {int(totals[1, 0])} of two; legal is some of each"
        )
    weights = counts / totals / 2
    weight = weights.sum(axis=0)
    filled = weight > 0
    probability = (sums / totals / 2).sum(axis=0)[filled] / weight[filled]
    share = weights[0, filled] / weight[filled]
    table = pd.DataFrame({"probability": probability, "share": share, "weight": weight[filled]})
    return Reliability(float(weight[filled] @ np.abs(probability - share)), table)
