"""Clocks of a large network: most pairs of its cameras are far apart, and their gaps tell nothing."""

import numpy as np
import pytest
from scipy.special import expit

from qaconv.camnet.network import NetworkSettings, simulate
from qaconv.tlift.mending import mend_clocks


@pytest.fixture(scope="module")
def network():
    """Camids, times and pairs of 13,000 sightings on 24 cameras: of each five of its person and five of anyone."""
    walks = simulate(NetworkSettings(seed=2, cameras=24, people=850))
    rng = np.random.default_rng(2)
    pids, camids = walks["person"].to_numpy(), walks["camera"].to_numpy()
    start, count = np.searchsorted(pids, pids), np.bincount(pids)[pids]
    own = start[:, None] + rng.integers(0, count[:, None], (len(pids), 5))
    second = np.concatenate([own, rng.integers(0, len(pids), (len(pids), 5))], axis=1).ravel()
    first = np.repeat(np.arange(len(pids)), 10)
    likely = expit(2 * rng.normal(np.where(pids[first] == pids[second], 1.0, -1.0), 1.0))
    apart = camids[first] != camids[second]
    return camids, walks["clock_s"].to_numpy(), first[apart], second[apart], likely[apart]


def test_sound_clocks_of_many_cameras_stay_as_they_are(network):
    assert mend_clocks(*network) == ({}, [])


def test_of_many_clocks_only_the_one_that_jumps_is_mended(network):
    camids, times, *pairs = network
    at = np.quantile(times, 0.6)
    mends, findings = mend_clocks(camids, times + 600.0 * ((camids == 9) & (times > at)), *pairs)
    assert [(each.camid, each.kind) for each in findings] == [(9, "jump")]
    ((found, shift),) = mends[9].jumps
    assert abs(found - at) <= 3600 and shift == pytest.approx(600, abs=15)
