"""Clocks of a large network: most pairs of its cameras are far apart, and their gaps tell nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.lifting.walks import crowd
from qaconv.tlift.clock_repair import BOUNDARY_STEP, MIN_WALKS, _boundaries, find_clock_corrections

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Network = tuple[Ints, Floats, Ints, Ints, Floats]


@pytest.fixture(scope="module")
def network() -> Network:
    """Camids, times and pairs of 4,400 sightings on 12 cameras, each likely to show one person as its score says."""
    found = crowd(seed=1, cameras=12, people=300)
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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=2 * MIN_WALKS, max_size=40), st.sampled_from([0.0, 1.76e9]))
def test_of_times_that_part_the_walks_alike_the_first_is_tried(hours: list[float], start: float) -> None:
    times = start + np.array(hours)
    ordered = np.sort(times)
    steps = np.arange(ordered[MIN_WALKS], ordered[-MIN_WALKS], BOUNDARY_STEP)
    _, first = np.unique(np.searchsorted(ordered, steps), return_index=True)
    boundaries, number = _boundaries(times)
    assert boundaries.tolist() == steps[first].tolist() and number == len(steps)


def test_the_times_at_which_a_jump_is_tried_grow_with_the_walks_and_not_with_their_span() -> None:
    times = np.random.default_rng(0).uniform(0, 1e11, 100)  # each step would be one of a hundred million
    assert len(_boundaries(times)[0]) < 100
