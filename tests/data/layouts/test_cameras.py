"""Cameras and scenes that a dataset does not have are refused, and its last ones are read."""

from pathlib import Path

import pytest

from qaconv.data import layouts
from qaconv.data.layouts import clonedperson, market1501
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import write_noise


@pytest.mark.parametrize(
    ("layout", "image"),
    [
        ("dukemtmc", "query/0005_c9_f0046985.jpg"),
        ("dukemtmc", "query/0005_f0046985.jpg"),
        ("cuhk03np", "query/0005_c0_1.png"),
        ("randperson", "randperson_subset/000000_s11_c00_f000264.jpg"),
        ("clonedperson", "test/query/700000_s13_c00_f023389.jpg"),
        ("clonedperson", "test/query/700000_s02_c04_f023389.jpg"),
    ],
)
def test_camera_that_the_dataset_does_not_have_is_refused(layout: str, image: str, tmp_path: Path) -> None:
    for folder in (*market1501.FOLDERS.values(), *clonedperson.FOLDERS.values(), "randperson_subset"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / image).touch()
    with pytest.raises(InputError, match=f"1 names do not have the form(.|\n)*{image}"):
        layouts.read(layout, tmp_path)


def test_last_camera_of_each_synthetic_dataset_is_the_papers_count(tmp_path: Path) -> None:
    write_noise(tmp_path / "randperson_subset/007999_s10_c03_f000264.jpg", 0)
    assert layouts.read("randperson", tmp_path).frame["camid"].tolist() == [18]  # of 19
    for folder in clonedperson.FOLDERS.values():
        (tmp_path / folder).mkdir(parents=True)
    write_noise(tmp_path / "train/705620_s12_c03_f000264.jpg", 0)
    assert layouts.read("clonedperson", tmp_path).frame["camid"].tolist() == [23]  # of 24


def test_different_people_with_one_number_on_both_cameras_of_prid2011_are_never_matched(tmp_path: Path) -> None:
    for seed, image in enumerate(("cam_a/person_0200", "cam_b/person_0200", "cam_a/person_0201", "cam_b/person_0201")):
        write_noise(tmp_path / f"single_shot/{image}.png", seed)
    manifest = layouts.read("prid2011", tmp_path)
    assert manifest.split("query")["pid"].tolist() == [200]
    assert manifest.split("gallery")["pid"].tolist() == [200, 201]
