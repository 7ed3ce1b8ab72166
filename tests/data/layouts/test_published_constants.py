"""Cameras, start frames and frame rates as published by the datasets and by QAConv's authors, written out again."""

import math
from pathlib import Path
from typing import Any

import pytest

from qaconv.data.layouts import clonedperson, cuhk03np, dukemtmc, market1501, msmt17, prid2011, randperson, viper

DUKE_START_FRAMES = {1: 5542, 2: 3606, 3: 27243, 4: 31181, 5: 0, 6: 22401, 7: 18967, 8: 46765}
# scene: (number of its first camera, first frame), from reid/datasets/randperson.py of QAConv's authors
RANDPERSON_SCENES = {
    0: (0, 0),
    1: (2, 160000),
    2: (4, 340000),
    3: (6, 490000),
    4: (8, 640000),
    5: (9, 1070000),
    6: (10, 1330000),
    7: (12, 1590000),
    8: (13, 1890000),
    9: (14, 3190000),
    10: (15, 3490000),
}
# scene: number of its first camera, from reid/datasets/clonedperson.py of QAConv's authors
CLONEDPERSON_SCENES = {0: 0, 1: 0, 2: 0, 3: 4, 4: 4, 5: 8, 6: 12, 7: 12, 8: 12, 9: 12, 10: 16, 11: 16, 12: 20}
FRAME = 2400


def read_one(layout: Any, folder: Path, image: str) -> tuple[int, int, float]:
    """Return pid, camera and time that a layout reads from the name of one empty file."""
    for split in layout.FOLDERS.values():
        (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / image).touch()
    row = layout.read(folder, "domain").frame.iloc[0]
    return int(row["pid"]), int(row["camid"]), float(row["time_s"])


@pytest.mark.parametrize(("camera", "start"), DUKE_START_FRAMES.items())
def test_dukemtmc_starts_each_camera_at_its_published_frame(tmp_path: Path, camera: int, start: int) -> None:
    pid, camid, time_s = read_one(dukemtmc, tmp_path, f"query/0005_c{camera}_f{FRAME:07d}.jpg")
    assert (pid, camid) == (5, camera - 1)
    assert time_s == pytest.approx((FRAME + start) / 59.94, rel=1e-12)


@pytest.mark.parametrize(("scene", "published"), RANDPERSON_SCENES.items())
def test_randperson_starts_each_scene_at_its_published_camera_and_frame(
    tmp_path: Path, scene: int, published: tuple[int, int]
) -> None:
    first_camera, start = published
    pid, camid, time_s = read_one(randperson, tmp_path, f"randperson_subset/000007_s{scene:02d}_c01_f{FRAME:06d}.jpg")
    assert (pid, camid) == (7, first_camera + 1)
    assert time_s == pytest.approx((FRAME + start) / 24, rel=1e-12)


@pytest.mark.parametrize(("scene", "first_camera"), CLONEDPERSON_SCENES.items())
def test_clonedperson_starts_each_scene_at_its_published_camera(tmp_path: Path, scene: int, first_camera: int) -> None:
    row = read_one(clonedperson, tmp_path, f"test/query/700000_s{scene:02d}_c03_f{FRAME:06d}.jpg")
    assert row == (700000, first_camera + 3, FRAME / 24)


@pytest.mark.parametrize("camera", range(1, 7))
def test_market1501_has_25_frames_a_second_on_each_camera(tmp_path: Path, camera: int) -> None:
    row = read_one(market1501, tmp_path, f"query/0002_c{camera}s1_{FRAME:06d}_00.jpg")
    assert row == (2, camera - 1, FRAME / 25)


@pytest.mark.parametrize(
    ("layout", "image", "pid", "camid"),
    [
        (cuhk03np, "query/0003_c2_21.png", 3, 1),
        (viper, "cam_a/001_45.bmp", 1, 0),
        (viper, "cam_b/001_90.bmp", 1, 1),
        (prid2011, "single_shot/cam_a/person_0200.png", 200, 0),
        (prid2011, "single_shot/cam_b/person_0749.png", 749, 1),
    ],
)
def test_a_layout_without_times_counts_its_cameras_from_0(
    tmp_path: Path, layout: Any, image: str, pid: int, camid: int
) -> None:
    *person_and_camera, time_s = read_one(layout, tmp_path, image)
    assert person_and_camera == [pid, camid]
    assert math.isnan(time_s)


def test_msmt17_takes_its_camera_from_the_third_number_of_a_name(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    for name, pids in {"train": [0, 1040], "val": [], "query": [0], "gallery": [3059]}.items():
        lines = [f"{pid:04d}/{pid:04d}_000_15_0303morning_0008_0.jpg {pid}\n" for pid in pids]
        (tmp_path / f"list_{name}.txt").write_text("".join(lines))
    frame = msmt17.read(tmp_path, "domain").frame
    assert set(frame["camid"]) == {14} and frame["time_s"].isna().all()
    assert {split: sorted(rows["pid"]) for split, rows in frame.groupby("split")} == {
        "train": [0, 1040],
        "query": [1041],
        "gallery": [1041 + 3059],
    }
