from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from qaconv.config.operation import DriftConfig
from qaconv.errors import InputError
from qaconv.release.drift import Window, find_drifts, match_window, number_cameras
from qaconv.runtime.model import ServedModel
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from qaconv.tlift.transit import TransitTable
from tests.camera_version import DARK, PEOPLE, RED, TARGET, files_of, seen_by
from tests.tlift.test_profile import with_transit

RULES = DriftConfig(
    sightings=500,
    fewest=30,
    max_score_change=0.25,
    max_confident_drop=0.2,
    max_share_change=0.3,
    min_transit_gain=0.5,
    start=False,
)
PROFILE = TLiftProfile(target="mall", camids=(0, 1, 2), active=True, reason="made up")


def window(count: int = 120, *, seed: int = 0, score: float = 5.0, gain: float = 1.0, likely: float = 0.8) -> Window:
    """Three cameras, an hour."""
    rng = np.random.default_rng(seed)
    return Window(
        camids=np.arange(count) % 3,
        times=np.sort(rng.uniform(0, 3600, count)),
        best=rng.normal(score, 1.0, count),
        likely=np.arange(count) < likely * count,
        gains=rng.normal(gain, 0.1, count // 4),
    )


def kinds(before: Window, since: Window) -> list[str]:
    return [drift.kind for drift in find_drifts(before, since, PROFILE, RULES)]


def changed(window: Window, **fields: NDArray[Any]) -> Window:
    return replace(window, **fields)


@pytest.mark.parametrize("seed", range(1, 20))
def test_another_hour_of_the_same_sightings_is_no_drift(seed: int) -> None:
    assert kinds(window(), window(seed=seed)) == []


def test_each_kind_of_drift_is_found_alone() -> None:
    before, since = window(), window(seed=1)
    assert kinds(before, window(seed=1, score=4.0)) == ["scores"]
    assert kinds(before, window(seed=1, likely=0.5)) == ["matches"]
    assert kinds(before, window(seed=1, gain=0.4)) == ["transits"]
    assert kinds(before, changed(since, times=np.where(since.camids == 1, np.nan, since.times))) == ["clocks"]
    assert kinds(before, changed(since, camids=np.where(since.camids == 2, 3, since.camids))) == ["cameras"] * 3


def test_a_fault_that_a_clock_had_before_is_not_reported_again() -> None:
    before, since = (
        changed(period, times=np.where(period.camids == 1, np.nan, period.times))
        for period in (window(), window(seed=1))
    )
    assert kinds(before, since) == []


def test_too_few_sightings_show_no_drift() -> None:
    assert kinds(window(), window(29, score=0.0)) == []
    assert kinds(window(29), window(score=0.0)) == []


def test_a_drift_names_the_change_and_the_limit() -> None:
    (drift,) = find_drifts(window(), window(seed=1, likely=0.5), PROFILE, RULES)
    assert drift.detail == (
        "50% of the sightings have a likely match on another camera, 80% before; a drop of at most 20% is allowed"
    )


class Colours:
    """A model whose map of a crop is its mean colour, and whose logit is a difference of maps."""

    crop_size = (4, 2)

    def encode_batches(self, crops: Iterable[NDArray[np.uint8]], camids: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([crop.mean(axis=(0, 1), dtype=np.float32) for crop in crops])

    def score(self, query_maps: NDArray[np.float32], gallery_maps: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = -np.abs(query_maps[:, None] - gallery_maps).sum(axis=2)
        return logits

    def probability(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.where(logits > -5, 0.9, 0.1)


def test_matches_are_searched_on_other_cameras_and_their_times_are_weighed(tmp_path: Path) -> None:
    greys, camids, times = [0, 0, 1, 200, 202], [0, 0, 1, 0, 1], [0.0, 5.0, 30.0, 100.0, np.nan]
    for number, grey in enumerate(greys):
        Image.new("RGB", (2, 4), (grey, grey, grey)).save(tmp_path / f"{number}.png")
    rows = pd.DataFrame({"image": [f"{number}.png" for number in range(5)], "camid": camids, "time_s": times})
    transit = TransitTable(centres=(30.0, None, None), reach=5.0, log_ratio=[[0.7] * 100, [], []])
    matched = match_window(Colours(), TLiftProfile("mall", (0, 1, 2), True, "", transit=transit), rows, tmp_path)
    assert matched.best.tolist() == [-3.0, -3.0, -3.0, -6.0, -6.0]
    assert matched.likely.tolist() == [True, True, True, False, False]
    assert matched.gains == pytest.approx([0.7])  # of the mutual match of the first and the third


def test_a_new_camera_leaves_the_probabilities_of_the_others(tmp_path: Path) -> None:
    odds = MatchOdds(Calibration([0.0, 1.0], [0.1, 0.2]), 0.5, sightings=10, span_s=100.0)
    profile = with_transit(camids=(0, 1), match_odds=odds)
    for number in range(3):
        Image.new("RGB", (2, 4), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = pd.DataFrame({"image": ["0.png", "1.png"], "camid": [0, 1], "time_s": [0.0, 60.0]})
    further = pd.DataFrame({"image": ["2.png"], "camid": [7], "time_s": [20.0]})
    alone = match_window(Colours(), profile, rows, tmp_path)
    with_further = match_window(Colours(), profile, pd.concat([rows, further], ignore_index=True), tmp_path)
    assert alone.likely.tolist() == [True, True] and with_further.likely.tolist()[:2] == [True, True]


def test_sightings_are_encoded_for_their_cameras(camera_version: Path, tmp_path: Path) -> None:
    model = ServedModel(camera_version, threads=1)
    camids = np.repeat([DARK, RED], PEOPLE)
    for number, file in enumerate([*files_of(DARK), *files_of(RED)]):
        (tmp_path / f"{number}.png").write_bytes(file)
    names = [f"{number}.png" for number in range(len(camids))]
    rows = pd.DataFrame({"image": names, "camid": camids, "time_s": np.nan})
    matched = match_window(model, model.profiles[TARGET], rows, tmp_path)
    dark, red = (model.encode(seen_by(camid), [camid] * PEOPLE) for camid in (DARK, RED))
    logits = model.score(dark, red)
    expected = [*logits.max(axis=1), *logits.max(axis=0)]
    np.testing.assert_allclose(matched.best, expected, atol=1e-3)


def test_sightings_with_milliseconds_are_refused_before_an_image_is_read(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image": ["missing.png"], "camid": [0], "time_s": [1764211494000]})
    with pytest.raises(InputError, match=f"{tmp_path}: time_s must be seconds from"):
        match_window(Colours(), None, rows, tmp_path)


def test_cameras_are_numbered_as_in_the_profile_and_those_that_it_lacks_beyond() -> None:
    named = replace(PROFILE, cameras={0: "roof", 1: "lift", 2: "3"})
    cameras = pd.Series(["lift", "3", "hall", "roof", "garage"])
    camids, names = number_cameras(cameras, named)
    assert camids.tolist()[:2] == [1, 2] and camids[3] == 0 and camids[[2, 4]].gt(9_999).all()
    assert cameras.tolist() == [names[camid] for camid in camids]
    numbers = pd.Series(["0", "2", "7"])
    for profile in (PROFILE, None):
        assert number_cameras(numbers, profile)[0].tolist() == [0, 2, 7]


def test_drifts_name_cameras_by_their_names() -> None:
    profile = replace(PROFILE, cameras={0: "roof", 1: "lift", 2: "door"})
    before, since = window(), window(seed=1)
    moved = changed(since, camids=np.where(since.camids == 2, 10_000, since.camids))
    details = [drift.detail for drift in find_drifts(before, moved, profile, RULES, {10_000: "hall"})]
    assert details[0] == "cameras [hall] are not in the profile, which has [roof, lift, door]"
    assert [detail.split(" has ")[0] for detail in details[1:]] == ["camera door", "camera hall"]
    stopped = changed(since, times=np.where(since.camids == 1, np.nan, since.times))
    (drift,) = find_drifts(before, stopped, profile, RULES)
    assert drift.detail.startswith("camera lift, missing: ")
