"""Estimate how long after a sighting one camera sees the same person again.

Sightings of one visit are seconds apart, those of two visits minutes or hours. M pairs of sightings on one camera,
B bins, N sightings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

from qaconv.tlift.calibration import Calibration

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BIN = 0.35  # width of a bin on the axis log(1 + gap): 0.4 s for short gaps, 42 per cent of long ones
CHANCE_TIMES = 400  # quantiles of each camera's times; their differences stand for all
POOLED_COUNT = 20.0  # pairs that the gaps by chance count for
ROUNDS = 20  # of expectation and maximisation


@dataclass(frozen=True)
class ReturnTimes:
    """Log likelihood ratios of the gaps between two sightings on one camera.

    Attributes:
        log_ratio: log of the density of one person's gaps / that of chance, by bin; empty where nothing is known.
    """

    log_ratio: Sequence[float] = ()

    def __call__(self, gaps: Floats) -> Floats:
        """Return the log likelihood ratio of gaps in seconds, of any sign and shape.

        Example:
            >>> ReturnTimes([3.0, -2.0])(np.array([0.1, -900.0]))
            array([ 3., -2.])
        """
        if not len(self.log_ratio):
            return np.zeros(np.shape(gaps))
        values: Floats = np.asarray(self.log_ratio, dtype=np.float64)[_bins(gaps, len(self.log_ratio))]
        return values


def fit_return_times(
    gaps: Floats, scores: Floats, calibration: Calibration, camids: Ints, times: Floats
) -> ReturnTimes:
    """Fit by expectation and maximisation: a pair's odds follow from its score and its gap.

    Args:
        gaps: seconds between the sightings of pairs on one camera, [M].
        scores: of the pairs, in [0, 1], [M].
        calibration: log odds by score for pairs whose times are unknown.
        camids: of all sightings, [N].
        times: [N] seconds.
    """
    if not len(gaps):
        return ReturnTimes()
    count = 1 + int(np.log1p(np.ptp(times)) / BIN)
    bins = _bins(gaps, count)
    chance = np.bincount(_bins(_chance_gaps(camids, times), count), minlength=count) + 1.0
    chance /= chance.sum()
    log_odds = calibration(scores)
    log_ratio = np.zeros(count)
    for _ in range(ROUNDS):
        likely = np.bincount(bins, expit(log_odds + log_ratio[bins]), minlength=count)
        density = gaussian_filter1d(likely, 1.0, mode="nearest") + POOLED_COUNT * chance
        log_ratio = np.log(density / density.sum() / chance)
    return ReturnTimes(tuple(np.round(log_ratio, 3).tolist()))


def _bins(gaps: Floats, count: int) -> Ints:
    return np.minimum(np.log1p(np.abs(gaps)) / BIN, count - 1).astype(np.int64)


def _chance_gaps(camids: Ints, times: Floats) -> Floats:
    """Return gaps between sightings on one camera, whoever they show; each camera counts by its sightings."""
    quantiles = (np.arange(CHANCE_TIMES) + 0.5) / CHANCE_TIMES
    rng = np.random.default_rng(0)
    gaps = []
    for camid, sightings in zip(*np.unique(camids, return_counts=True), strict=True):
        sample = np.quantile(times[camids == camid], quantiles)
        differences = (sample[:, None] - sample)[np.triu_indices(CHANCE_TIMES, 1)]
        gaps.append(rng.choice(differences, min(len(differences), int(sightings) * 20)))
    return np.concatenate(gaps)
