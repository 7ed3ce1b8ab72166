import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qaconv.errors import InputError
from qaconv.times import UNIX_EPOCH
from qaconv.tlift import TLiftProfile, fit_profile, temporal_lift
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.clock_checks import ClockCorrection
from qaconv.tlift.findings import Finding
from qaconv.tlift.lifted_scores import ScoreKind
from qaconv.tlift.parameters import LiftParameters
from qaconv.tlift.transit import TransitTable

RNG = np.random.default_rng(5)
SIGHTINGS = (RNG.random((6, 9)), [0, 0, 0, 1, 1, 1], RNG.random(6) * 300, [2] * 9, RNG.random(9) * 300)
PEAK = np.log(np.r_[np.full(90, 0.1), np.full(20, 5.0), np.full(90, 0.1)])  # within 10 s of the centre


def profile(**changes: Any) -> TLiftProfile:
    values: dict[str, Any] = {
        "target": "station",
        "camids": (0, 1, 2),
        "active": True,
        "reason": "held-out matches gain",
    }
    return TLiftProfile(**{**values, **changes})


def with_transit(**changes: Any) -> TLiftProfile:
    table = TransitTable([60.0, 60.0, 60.0], 10.0, [PEAK.tolist()] * 3)
    return profile(transit=table, parameters=LiftParameters(alpha=5.0, transit_weight=1.0), **changes)


def test_profile_without_transit_times_and_calibration_lifts_as_the_paper_does() -> None:
    chosen = LiftParameters(tau_s=70.0, sigma_s=30.0, top_k=3, alpha=0.1)
    np.testing.assert_allclose(
        profile(parameters=chosen).lift(*SIGHTINGS),
        temporal_lift(*SIGHTINGS, tau=70, sigma=30, top_k=3, alpha=0.1),
        rtol=1e-12,
    )


def test_gallery_image_at_the_walking_time_passes_a_better_looking_one() -> None:
    scores, where = [[0.30, 0.40]], ([0], [0.0], [1, 1], [60.0, 500.0])
    assert with_transit().lift(scores, *where)[0].argmax() == 0


def test_both_directions_use_one_transit_table() -> None:
    there = with_transit().lift([[0.3, 0.4]], [0], [0.0], [1, 1], [60.0, 500.0])
    back = with_transit().lift([[0.3, 0.4]], [1], [60.0], [0, 0], [0.0, -440.0])
    np.testing.assert_allclose(there, back)


def test_images_of_the_query_s_own_camera_keep_their_order_and_get_what_the_others_get_on_average() -> None:
    found = with_transit().lift([[0.5, 0.6, 0.3, 0.4]], [0], [0.0], [0, 0, 1, 1], [60.0, 9.0, 60.0, 500.0])[0]
    of_others = found[2:] / [0.3, 0.4]
    assert found[0] / 0.5 == pytest.approx(found[1] / 0.6) == pytest.approx(of_others.prod() ** 0.5)


def test_an_image_without_a_time_is_lifted_like_the_mean_of_the_others() -> None:
    found = profile(camids=(0, 1)).lift([[0.5, 0.5]], [0], [0.0], [1, 1], [20.0, np.nan])[0]
    assert found[0] == pytest.approx(found[1])


def test_a_corrected_clock_gives_the_scores_of_one_without_a_jump() -> None:
    clocks = {1: ClockCorrection(jumps=[(1000.0, 600.0)])}
    before = with_transit().lift([[0.3, 0.4]], [0], [2000.0], [1, 1], [2060.0, 2500.0])
    after = with_transit(clocks=clocks).lift([[0.3, 0.4]], [0], [2000.0], [1, 1], [2660.0, 3100.0])
    np.testing.assert_allclose(before, after)


def test_each_kind_of_score_has_its_own_calibration() -> None:
    curves = {"reranked": Calibration([-1.0, 1.0], [-3.0, 3.0])}
    kinds: tuple[ScoreKind, ...] = ("direct", "reranked")
    direct, reranked = (profile(calibrations=curves).lift(*SIGHTINGS, ranking=kind) for kind in kinds)
    assert not np.allclose(direct, reranked)
    np.testing.assert_array_equal(direct, profile().lift(*SIGHTINGS))


def test_an_inactive_profile_returns_the_scores() -> None:
    np.testing.assert_array_equal(profile(active=False).lift(*SIGHTINGS), SIGHTINGS[0])


def test_unknown_camera_is_refused_by_number() -> None:
    with pytest.raises(InputError, match=r"gallery_camids must be cameras .* of station, \[0, 1\], got \[2\]"):
        profile(camids=(0, 1)).lift(*SIGHTINGS)


def test_saved_profile_comes_back_the_same(tmp_path: Path) -> None:
    full = with_transit(
        span_s=(0.0, 9.0),
        clocks={1: ClockCorrection(0.001, 5.0, [(9.0, 3.0)])},
        findings=(Finding(1, "jump", 9.0, "jumps by +3 s", "mended"),),
        calibrations={"direct": Calibration([0.0, 1.0], [0.0, 2.0])},
    )
    full.save(tmp_path / "a.json")
    again = TLiftProfile.load(tmp_path / "a.json")
    again.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    np.testing.assert_array_equal(full.lift(*SIGHTINGS), again.lift(*SIGHTINGS))


def test_a_profile_that_names_its_target_by_the_old_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    with_transit().save(path)
    path.write_text(path.read_text().replace('"target":', '"deployment":'))
    assert TLiftProfile.load(path).target == with_transit().target


def test_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    profile(model="a" * 64).save(tmp_path / "a.json")
    assert TLiftProfile.load(tmp_path / "a.json", model="a" * 64).active
    with pytest.raises(InputError, match="must be fitted for the model bbbbbbbbbbbb, got a profile of aaaaaaaaaaaa"):
        TLiftProfile.load(tmp_path / "a.json", model="b" * 64)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2}', '{"version": 2, "target": "a"}'])
def test_a_file_that_is_not_a_profile_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json is not a TLift profile"):
        TLiftProfile.load(tmp_path / "a.json")


def test_profile_of_another_version_is_refused(tmp_path: Path) -> None:
    profile().save(tmp_path / "a.json")
    values = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**values, "version": 1}))
    with pytest.raises(InputError, match="must be a profile of version 2, got version 1"):
        TLiftProfile.load(tmp_path / "a.json")


def test_names_of_cameras_and_the_origin_of_times_survive_saving_and_older_files_have_none(tmp_path: Path) -> None:
    profile = TLiftProfile("mall", (0, 1), False, "", cameras={0: "lift", 1: "roof"}, time_origin=UNIX_EPOCH)
    profile.save(tmp_path / "mall.json")
    loaded = TLiftProfile.load(tmp_path / "mall.json")
    assert (loaded.cameras, loaded.time_origin) == ({0: "lift", 1: "roof"}, UNIX_EPOCH)
    values = json.loads((tmp_path / "mall.json").read_text())
    del values["cameras"], values["time_origin"]
    (tmp_path / "mall.json").write_text(json.dumps(values))
    older = TLiftProfile.load(tmp_path / "mall.json")
    assert (older.cameras, older.time_origin) == ({}, "")


def test_a_camera_is_found_by_name_where_cameras_have_names_and_by_number_everywhere() -> None:
    named = TLiftProfile("mall", (0, 1), False, "", cameras={0: "1", 1: "roof"})
    assert [named.camid_of(camera) for camera in (1, "1", "roof", "hall", "0", 2)] == [1, 0, 1, None, None, None]
    numbered = TLiftProfile("mall", (0, 1), False, "")
    assert [numbered.camid_of(camera) for camera in (1, "1", "roof", "2")] == [1, 1, None, None]


def test_a_date_is_read_where_times_are_dates_and_refused_elsewhere() -> None:
    dated = TLiftProfile("mall", (0, 1), False, "", time_origin=UNIX_EPOCH)
    assert dated.seconds_of("2026-11-27T08:15:30.250+01:00") == dated.seconds_of(1795763730.25) == 1795763730.25
    assert dated.seconds_of(None) is None
    with pytest.raises(InputError, match="time_s: must be seconds or a date with time and zone .*, got '2026-11-27T08"):
        dated.seconds_of("2026-11-27T08:15")
    with pytest.raises(InputError, match="time_s: must be seconds on the clocks of the cameras of mall, got a date"):
        replace(dated, time_origin="").seconds_of("2026-11-27T08:15:30Z")


def test_a_fit_passes_names_of_cameras_and_the_origin_of_times_on() -> None:
    names = {0: "lift", 1: "roof"}
    fitted = fit_profile([[1], [0]], [[0.9], [0.9]], [0, 1], [10, 25], cameras=names, time_origin=UNIX_EPOCH)
    assert (fitted.cameras, fitted.time_origin) == (names, UNIX_EPOCH)
