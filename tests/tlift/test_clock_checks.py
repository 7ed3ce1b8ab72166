from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.tlift.clock_checks import ClockCorrection, check_clocks, correct_times, find_duplicates
from qaconv.tlift.findings import ACTIONS, MEANINGS, Finding

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RNG = np.random.default_rng(3)
CAMIDS = np.repeat([0, 1, 2], 40)
TIMES = RNG.uniform(0, 3600, 120)


def kinds(times: Floats, camids: Ints = CAMIDS) -> tuple[set[tuple[int, str, str]], NDArray[np.bool_]]:
    findings, used = check_clocks(camids, times)
    return {(finding.camid, finding.kind, finding.done) for finding in findings}, used


def test_sound_clocks_have_no_findings() -> None:
    assert kinds(TIMES)[0] == set()


def test_missing_times_are_counted_by_camera_and_left_out() -> None:
    times = np.where(np.arange(120) == 50, np.nan, TIMES)
    found, used = kinds(times)
    assert found == {(1, "missing", "left out")} and not used[50] and used.sum() == 119


def test_camera_that_counts_frames_is_left_out() -> None:
    found, used = kinds(np.where(CAMIDS == 2, TIMES * 25, TIMES))
    assert found == {(2, "unit", "left out")} and not used[CAMIDS == 2].any() and used[CAMIDS < 2].all()


@pytest.mark.parametrize("unit", [3600, 86400])
def test_cameras_that_count_hours_or_days_are_left_out(unit: float) -> None:
    found, used = kinds(8 * TIMES / unit)  # of eight hours
    assert found == {(camid, "unit", "left out") for camid in range(3)} and not used.any()


def test_few_sightings_of_a_minute_keep_their_times() -> None:
    assert kinds(TIMES[::5] / 100, CAMIDS[::5])[1].all()


def test_a_time_far_from_all_others_is_left_out() -> None:
    times = TIMES.copy()
    times[7] = 1.7e9
    found, used = kinds(times)
    assert (0, "impossible", "left out") in found and not used[7] and used.sum() == 119


def test_camera_with_few_sightings_is_named() -> None:
    assert kinds(np.append(TIMES, 100.0), np.append(CAMIDS, 3))[0] == {(3, "few", "pooled statistics")}


def test_camera_that_saw_nothing_for_long_is_named() -> None:
    times = TIMES.copy()
    times[CAMIDS == 1] = np.r_[np.linspace(0, 900, 20), np.linspace(2700, 3600, 20)]
    assert (1, "gap", "kept") in kinds(times)[0]


def test_findings_that_concern_a_whole_camera_name_its_first_time() -> None:
    times, camids = np.append(np.where(CAMIDS == 2, TIMES * 25, TIMES), 100.0), np.append(CAMIDS, 3)
    named = {finding.kind: finding.time_s for finding in check_clocks(camids, times)[0]}
    assert named == {"unit": 25 * TIMES[CAMIDS == 2].min(), "few": 100.0}


def test_one_crop_stored_twice_is_named() -> None:
    times = TIMES.copy()
    times[4] = times[5]
    nearest = (np.arange(120) + 60) % 120
    nearest[4], nearest[5] = 5, 4
    (found,) = find_duplicates(CAMIDS, times, nearest)
    assert (found.camid, found.kind, found.time_s) == (0, "duplicates", times[5])


def test_a_correction_removes_drift_and_every_earlier_jump() -> None:
    correction = ClockCorrection(drift=0.01, origin_s=100.0, jumps=[(200.0, 30.0), (400.0, -10.0)])
    np.testing.assert_allclose(correction(np.array([100.0, 300.0, 500.0])), [100.0, 268.0, 476.0])
    corrected = correct_times({1: correction}, np.array([0, 1]), np.array([300.0, 300.0]))
    np.testing.assert_allclose(corrected, [300.0, 268.0])


def test_a_finding_of_unknown_kind_or_action_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'slow' of a clock finding, allowed: reset"):
        Finding(0, "slow", None, "", "kept")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown done 'repaired' of a clock finding, allowed: mended"):
        Finding(0, "drift", None, "", "repaired")  # type: ignore[arg-type]


def test_the_page_about_fitted_time_lists_every_kind_with_its_meaning() -> None:
    page = (Path(__file__).parents[2] / "docs/tlift.md").read_text(encoding="utf-8")
    table = page.partition("## Findings")[2].partition("\n## ")[0]
    for name, meaning in (*MEANINGS.items(), *ACTIONS.items()):
        assert f"| {name} | {meaning} |" in table
