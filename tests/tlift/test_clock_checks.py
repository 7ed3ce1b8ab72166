import numpy as np

from qaconv.tlift.clock_checks import ClockCorrection, check_clocks, correct_times, find_duplicates

RNG = np.random.default_rng(3)
CAMIDS = np.repeat([0, 1, 2], 40)
TIMES = RNG.uniform(0, 3600, 120)


def kinds(times, camids=CAMIDS):
    findings, used = check_clocks(camids, times)
    return {(each.camid, each.kind, each.done) for each in findings}, used


def test_sound_clocks_have_no_findings():
    assert kinds(TIMES)[0] == set()


def test_missing_times_are_counted_by_camera_and_left_out():
    times = np.where(np.arange(120) == 50, np.nan, TIMES)
    found, used = kinds(times)
    assert found == {(1, "missing", "left out")} and not used[50] and used.sum() == 119


def test_camera_that_counts_frames_is_left_out():
    found, used = kinds(np.where(CAMIDS == 2, TIMES * 25, TIMES))
    assert found == {(2, "unit", "left out")} and not used[CAMIDS == 2].any() and used[CAMIDS < 2].all()


def test_a_time_far_from_all_others_is_left_out():
    times = TIMES.copy()
    times[7] = 1.7e9
    found, used = kinds(times)
    assert (0, "impossible", "left out") in found and not used[7] and used.sum() == 119


def test_camera_with_few_sightings_is_named():
    assert kinds(np.append(TIMES, 100.0), np.append(CAMIDS, 3))[0] == {(3, "few", "pooled statistics")}


def test_camera_that_saw_nothing_for_long_is_named():
    times = TIMES.copy()
    times[CAMIDS == 1] = np.r_[np.linspace(0, 900, 20), np.linspace(2700, 3600, 20)]
    assert (1, "gap", "kept") in kinds(times)[0]


def test_findings_that_concern_a_whole_camera_name_its_first_time():
    times, camids = np.append(np.where(CAMIDS == 2, TIMES * 25, TIMES), 100.0), np.append(CAMIDS, 3)
    named = {each.kind: each.time_s for each in check_clocks(camids, times)[0]}
    assert named == {"unit": 25 * TIMES[CAMIDS == 2].min(), "few": 100.0}


def test_one_crop_stored_twice_is_named():
    times = TIMES.copy()
    times[4] = times[5]
    nearest = (np.arange(120) + 60) % 120
    nearest[4], nearest[5] = 5, 4
    (found,) = find_duplicates(CAMIDS, times, nearest[:, None])
    assert (found.camid, found.kind, found.time_s) == (0, "duplicates", times[5])


def test_mend_takes_back_drift_and_every_jump_that_has_happened():
    mend = ClockCorrection(drift=0.01, origin_s=100.0, jumps=[(200.0, 30.0), (400.0, -10.0)])
    np.testing.assert_allclose(mend(np.array([100.0, 300.0, 500.0])), [100.0, 268.0, 476.0])
    mended = correct_times({1: mend}, np.array([0, 1]), np.array([300.0, 300.0]))
    np.testing.assert_allclose(mended, [300.0, 268.0])
