"""Clocks of a large network: most pairs of its cameras are far apart, and their gaps tell nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.lifting.walks import crowd
from qaconv.tlift.clock_repair import find_clock_corrections

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Network = tuple[Ints, Floats, Ints, Ints, Floats]


@pytest.fixture(scope="module")
def network() -> Network:
    """Camids, times and pairs of 13,000 sightings on 24 cameras, each likely to show one person as its score says."""
    found = crowd(seed=1, cameras=24, people=850)
    first, second = np.repeat(np.arange(len(found.times)), found.indices.shape[1]), found.indices.ravel()
    likely = expit(2 * logit(found.scores.ravel()))  # scores are drawn about 1 and -1, with a deviation of 1
    apart = found.camids[first] != found.camids[second]
    return found.camids, found.times, first[apart], second[apart], likely[apart]


def test_sound_clocks_of_many_cameras_are_not_corrected(network: Network) -> None:
    assert find_clock_corrections(*network) == ({}, [])


def test_of_many_clocks_only_the_one_that_jumps_is_corrected(network: Network) -> None:
    camids, times, first, second, likely = network
    at = np.quantile(times, 0.6)
    corrections, findings = find_clock_corrections(
        camids, times + 600.0 * ((camids == 9) & (times > at)), first, second, likely
    )
    assert [(finding.camid, finding.kind) for finding in findings] == [(9, "jump")]
    ((start, shift),) = corrections[9].jumps
    assert abs(start - at) <= 3600 and shift == pytest.approx(600, abs=15)
