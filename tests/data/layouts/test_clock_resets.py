"""Clocks that were reset are corrected by the order of recording, as the true times require."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.data.layouts.clock_resets import SLACK_S, correct_resets

SEEDS = st.integers(0, 2**32 - 1)


def correct(
    times: Sequence[float] | NDArray[np.float64], order: Sequence[int] | None = None, camid: Sequence[int] | None = None
) -> tuple[list[float], list[tuple[int, str, float, str]]]:
    """Return the corrected times, and camid, kind, time_s and done of each finding. Default: one camera, in order."""
    shown = pd.Series(times, dtype=float)
    orders = pd.Series(range(len(shown)) if order is None else order)
    camids = pd.Series([0] * len(shown) if camid is None else camid)
    corrected, findings = correct_resets(camids, orders, shown)
    rows = [(finding["camid"], finding["kind"], finding["time_s"], finding["done"]) for finding in findings]
    return corrected.tolist(), rows


def test_clock_that_is_reset_continues_from_its_last_time_at_each_reset() -> None:
    times, findings = correct([10, 500, 900, 0, 300, 700, 5, 100])
    assert times == [10, 500, 900, 900, 1200, 1600, 1600, 1695]
    assert findings == [(0, "reset", 0, "mended"), (0, "reset", 5, "mended")]


def test_a_single_time_that_falls_is_left_out_and_the_others_stay() -> None:
    times, findings = correct([10, 500, 20, 600, 700])
    np.testing.assert_array_equal(times, [10, 500, np.nan, 600, 700])
    assert findings == [(0, "backwards", 20, "left out")]


def test_each_camera_is_corrected_by_its_own_clock_and_order() -> None:
    times, findings = correct([900, 800, 0, 5], order=[1, 2, 3, 1], camid=[0, 1, 0, 1])
    assert times == [900, 800, 900, 5] and findings == [(0, "reset", 0, "mended")]


def test_sightings_without_a_time_stay_without_one() -> None:
    times, findings = correct([10, np.nan, 500, np.nan])
    np.testing.assert_array_equal(times, [10, np.nan, 500, np.nan])
    assert findings == []


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_times_in_the_order_of_recording_never_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 9000, 40))
    stored = times + rng.uniform(0, SLACK_S / 2, 40)  # crops of one moment, in any order
    assert correct(stored) == (stored.tolist(), [])


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_restarted_clock_keeps_every_gap_within_a_session(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sessions = [np.sort(rng.uniform(0, 3600, 30)) for _ in range(3)]
    times, findings = correct(np.concatenate(sessions))
    for number, session in enumerate(sessions):
        np.testing.assert_allclose(np.diff(times[30 * number : 30 * number + 30]), np.diff(session), atol=1e-6)
    assert [kind for _, kind, _, _ in findings] == ["reset", "reset"]
    assert (np.diff(times) >= -1e-6).all()
