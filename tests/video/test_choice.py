"""The rules for crops: whole people of some size, sharp ones, and a few of each track."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.video.choice import TrackChooser, find_faults, measure_quality, round_box
from qaconv.video.settings import CropSettings

WIDTH, HEIGHT = 640, 480
ALONE = (100.0, 100.0, 60.0, 150.0)


def faults(*boxes: tuple[float, float, float, float], **rules: float) -> dict[str, list[bool]]:
    settings = CropSettings.model_validate(rules)
    masks = find_faults(np.array(boxes), WIDTH, HEIGHT, settings)
    return {rule: mask.tolist() for rule, mask in masks.items()}


def test_box_of_a_whole_person_who_stands_alone_breaks_no_rule() -> None:
    assert faults(ALONE) == {"too small": [False], "cut off": [False], "overlapped": [False]}


@pytest.mark.parametrize(
    "box",
    [
        (0.0, 100.0, 60.0, 150.0),  # as detectors clip a box
        (-20.0, 100.0, 60.0, 150.0),  # as trackers predict one
        (100.0, 0.5, 60.0, 150.0),
        (580.0, 100.0, 60.0, 150.0),
        (100.0, 330.0, 60.0, 150.0),
    ],
)
def test_box_at_each_edge_of_the_picture_is_cut_off(box: tuple[float, float, float, float]) -> None:
    assert faults(box)["cut off"] == [True]


def test_box_below_the_height_is_too_small() -> None:
    assert faults(ALONE, min_height=150)["too small"] == [False]
    assert faults(ALONE, min_height=151)["too small"] == [True]


def test_share_that_another_box_covers_counts_for_each_of_the_two() -> None:
    child = (130.0, 100.0, 30.0, 75.0)  # covers a quarter of the other box, and is covered whole
    assert faults(ALONE, child, max_overlap=0.3)["overlapped"] == [False, True]
    assert faults(ALONE, child, max_overlap=0.2)["overlapped"] == [True, True]
    assert faults(ALONE, (160.0, 100.0, 60.0, 150.0))["overlapped"] == [False, False]


def test_blur_and_a_smaller_size_lower_the_quality_and_less_light_does_not() -> None:
    rng = np.random.default_rng(0)
    sharp: NDArray[np.uint8] = rng.integers(0, 200, (120, 50), dtype=np.uint8)
    blurred = ((sharp[:-1, :-1] + sharp[1:, :-1].astype(int) + sharp[:-1, 1:] + sharp[1:, 1:]) // 4).astype(np.uint8)
    assert measure_quality(blurred) < 0.7 * measure_quality(sharp)
    assert measure_quality(sharp[:60]) < 0.6 * measure_quality(sharp)
    assert measure_quality(sharp // 2) == pytest.approx(measure_quality(sharp), rel=0.02)
    assert measure_quality(np.full((120, 50), 7, dtype=np.uint8)) == 0


def test_box_covers_every_pixel_that_it_touches() -> None:
    assert tuple(round_box(np.array([10.6, 20.2, 5.0, 8.9]))) == (10, 20, 16, 30)


def choose(times: NDArray[np.float64], quality: NDArray[np.float64], **rules: float) -> list[float]:
    """Return the times of the crops that are kept of a track."""
    chooser: TrackChooser[float] = TrackChooser(CropSettings.model_validate(rules))
    kept: list[float] = []
    for time_s, value in [*zip(times, quality, strict=True), (np.inf, 0.0)]:
        crop = chooser.finish_spacing(time_s)
        if crop is not None:
            kept.append(crop)
            dropped = chooser.thin_out(kept)
            kept = [crop for crop in kept if crop not in dropped]
        if np.isfinite(time_s) and chooser.looks_at(time_s):
            chooser.offer(time_s, value, lambda time_s=time_s: time_s)  # type: ignore[misc]
    return kept


def test_best_box_of_each_spacing_is_kept_and_crops_are_that_far_apart() -> None:
    times = np.arange(0, 4, 0.2)
    quality = np.ones(20)
    quality[[3, 12]] = 2  # at 0.6 s and 2.4 s
    kept = choose(times, quality, spacing_s=1.0)
    assert kept[:2] == pytest.approx([0.6, 2.4])
    assert (np.diff(kept) >= 1.0 - 1e-9).all()


def test_crops_of_a_long_track_are_few_and_spread_over_all_of_it() -> None:
    times = np.arange(0, 3600, 0.5)
    kept = choose(times, np.random.default_rng(1).random(len(times)), spacing_s=1.0, most=8)
    assert 4 <= len(kept) <= 8
    assert kept[0] < 600 and kept[-1] > 3000
    assert max(np.diff(kept)) < 4 * min(np.diff(kept))


def test_track_of_one_box_gives_its_crop() -> None:
    assert choose(np.array([7.0]), np.array([0.1])) == [7.0]
