"""What the order of recording tells about clocks, of cameras whose truth is known."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.data.layouts.clock_resets import SLACK_S, mend_order

SEEDS = st.integers(0, 2**32 - 1)


def mended(times, order=None, camid=None):
    shown = pd.Series(times, dtype=float)
    order = pd.Series(range(len(shown)) if order is None else order)
    camid = pd.Series([0] * len(shown) if camid is None else camid)
    found, clocks = mend_order(camid, order, shown)
    return found.tolist(), [(each["camid"], each["kind"], each["time_s"], each["done"]) for each in clocks]


def test_clock_that_begins_anew_goes_on_from_where_it_was_every_time():
    times, clocks = mended([10, 500, 900, 0, 300, 700, 5, 100])
    assert times == [10, 500, 900, 900, 1200, 1600, 1600, 1695]
    assert clocks == [(0, "reset", 0, "mended"), (0, "reset", 5, "mended")]


def test_a_time_that_falls_alone_is_left_out_and_the_others_stay():
    times, clocks = mended([10, 500, 20, 600, 700])
    np.testing.assert_array_equal(times, [10, 500, np.nan, 600, 700])
    assert clocks == [(0, "backwards", 20, "left out")]


def test_each_camera_is_read_by_its_own_clock_and_order():
    times, clocks = mended([900, 800, 0, 5], order=[1, 2, 3, 1], camid=[0, 1, 0, 1])
    assert times == [900, 800, 900, 5] and clocks == [(0, "reset", 0, "mended")]


def test_sightings_without_a_time_are_passed_over():
    times, clocks = mended([10, np.nan, 500, np.nan])
    np.testing.assert_array_equal(times, [10, np.nan, 500, np.nan])
    assert clocks == []


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_times_in_the_order_of_recording_are_never_touched(seed):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 9000, 40))
    stored = times + rng.uniform(0, SLACK_S / 2, 40)  # crops of one moment, in any order
    assert mended(stored) == (stored.tolist(), [])


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_restarted_clock_keeps_every_gap_within_a_session(seed):
    rng = np.random.default_rng(seed)
    sessions = [np.sort(rng.uniform(0, 3600, 30)) for _ in range(3)]
    times, clocks = mended(np.concatenate(sessions))
    for number, session in enumerate(sessions):
        np.testing.assert_allclose(np.diff(times[30 * number : 30 * number + 30]), np.diff(session), atol=1e-6)
    assert [kind for _, kind, _, _ in clocks] == ["reset", "reset"]
    assert (np.diff(times) >= -1e-6).all()
