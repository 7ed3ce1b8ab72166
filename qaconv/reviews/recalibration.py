"""Correct stated probabilities by people's answers: a line through the log odds, which is the identity without answers.

n answered pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

SCALE_DOUBT = 0.5  # deviation of the scale from 1, and of the offset from 0, before anything is answered
OFFSET_DOUBT = 1.0
CLIP = 1e-6  # probabilities are kept this far from 0 and 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recalibration:
    """Log odds = scale * stated log odds + offset (Platt, 1999).

    Attributes:
        scale: at least 0, so that the order of pairs stays.
        offset: log odds of a pair that is stated at even odds.
        answers: number of pairs that it was fitted on.
    """

    scale: float = 1.0
    offset: float = 0.0
    answers: int = 0

    def __call__(self, probabilities: ArrayLike) -> Floats:
        """Return the corrected probabilities of stated ones, of any shape."""
        corrected: Floats = expit(self.scale * _log_odds(probabilities) + self.offset)
        return corrected


def fit_recalibration(stated: ArrayLike, same: ArrayLike, weights: ArrayLike) -> Recalibration:
    """Fit scale and offset by the most probable values, with normal priors around the identity.

    Weights that differ make answers count for less: together they count for the number of equally weighted answers
    that would be as certain (Kish, 1965).

    Args:
        stated: probabilities, [n].
        same: share of the reviewers who saw one person on both, [n].
        weights: number of candidate pairs that each answer stands for, [n].
    """
    log_odds = _log_odds(stated)
    share = np.asarray(same, dtype=np.float64)
    counted = np.asarray(weights, dtype=np.float64)
    if not len(log_odds):
        return Recalibration()
    counted = counted * counted.sum() / (counted**2).sum()

    def loss(line: Floats) -> tuple[float, Floats]:
        odds = line[0] * log_odds + line[1]
        slope = counted * (expit(odds) - share)
        away = np.array([(line[0] - 1) / SCALE_DOUBT, line[1] / OFFSET_DOUBT])
        entropy = -counted @ (share * log_expit(odds) + (1 - share) * log_expit(-odds))
        slopes = np.array([slope @ log_odds, slope.sum()]) + away / [SCALE_DOUBT, OFFSET_DOUBT]
        return float(entropy + away @ away / 2), slopes

    result = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return Recalibration(float(result.x[0]), float(result.x[1]), len(log_odds))


def _log_odds(probabilities: ArrayLike) -> Floats:
    values: Floats = logit(np.clip(np.asarray(probabilities, dtype=np.float64), CLIP, 1 - CLIP))
    return values
