"""Every layout reads back to the truth, and all of them refuse the same faults."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from qaconv.data import layouts
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.plugins import BUILT_IN
from tests.data.layouts.layout_writers import (
    assert_reads_as,
    write_clonedperson,
    write_cuhk03np,
    write_cuhksysu,
    write_dukemtmc,
    write_market1501,
    write_mars,
    write_msmt17,
    write_noise,
    write_prid2011,
    write_randperson,
    write_viper,
)

Writer = Callable[[Path, pd.DataFrame], pd.DataFrame]
WRITERS: dict[str, tuple[Writer, float]] = {  # with the seconds from one frame to the next
    "market1501": (write_market1501, 2 / 25),  # the camera network takes the frame before, not the nearest
    "cuhk03np": (write_cuhk03np, 0),
    "msmt17": (write_msmt17, 0),
    "dukemtmc": (write_dukemtmc, 1 / 59.94),
    "randperson": (write_randperson, 1 / 24),
    "clonedperson": (write_clonedperson, 1 / 24),
    "viper": (write_viper, 0),
    "prid2011": (write_prid2011, 0),
    "mars": (write_mars, 0),
    "cuhksysu": (write_cuhksysu, 0),
}
FOLDER_LAYOUTS = sorted(WRITERS)


def test_every_layout_has_a_writer() -> None:
    assert {*WRITERS, "folders", "table"} == set(BUILT_IN["layout"])


@pytest.mark.parametrize("name", FOLDER_LAYOUTS)
def test_layout_reads_back_to_the_truth(name: str, tmp_path: Path, sightings: pd.DataFrame) -> None:
    write, time_step = WRITERS[name]
    truth = write(tmp_path, sightings)
    assert len(truth) >= 20
    manifest = layouts.read(name, tmp_path)
    assert_reads_as(manifest, truth, time_step)
    assert set(manifest.frame["domain"]) == {name}


@pytest.mark.parametrize("name", FOLDER_LAYOUTS)
def test_folder_of_another_structure_is_refused_with_what_it_holds(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    looked_for = {
        "msmt17": "list_train.txt, list_val.txt",
        "randperson": "randperson_subset",
        "viper": "cam_a, cam_b",
        "prid2011": "single_shot/cam_a, single_shot/cam_b",
        "mars": "bbox_train, info/train_name.txt, info/tracks_train_info.mat",
        "cuhksysu": "cropped_images",
    }
    with pytest.raises(InputError, match=r"holiday\.jpg") as refusal:
        layouts.read(name, tmp_path)
    assert str(tmp_path) in str(refusal.value)
    assert looked_for.get(name, "query") in str(refusal.value)


@pytest.mark.parametrize("name", sorted({*FOLDER_LAYOUTS} - {"msmt17", "mars"}))
def test_name_that_does_not_parse_is_shown_with_one_that_does(
    name: str, tmp_path: Path, sightings: pd.DataFrame
) -> None:
    write, _ = WRITERS[name]
    good = tmp_path / write(tmp_path, sightings)["image"].iloc[0]
    good.rename(good.with_name("alice.jpg"))
    with pytest.raises(InputError, match=r"1 names do not have the form \S+\.(jpg|png|bmp) .*pid(.|\n)*/alice\.jpg"):
        layouts.read(name, tmp_path)


def test_first_ten_of_many_bad_names_are_shown_and_counted(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_market1501(tmp_path, sightings)
    for number in range(25):
        write_noise(tmp_path / f"query/img{number:02d}.jpg", number)
    with pytest.raises(InputError) as refusal:
        layouts.read("market1501", tmp_path)
    assert "25 names" in str(refusal.value)
    assert "query/img09.jpg" in str(refusal.value)
    assert "query/img10.jpg" not in str(refusal.value)
    listed = Path(str(refusal.value).partition("25 in all, listed in ")[2])
    assert listed.read_text().splitlines() == [f"query/img{number:02d}.jpg" for number in range(25)]
    listed.unlink()


def test_site_of_the_camera_network_reads_back_as_it_was_simulated(site_folder: Path, sightings: pd.DataFrame) -> None:
    truth = sightings.rename(columns={"path": "image"})
    assert_reads_as(layouts.read("market1501", site_folder), truth, 2 / 25)


def test_domain_is_what_the_caller_says(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_viper(tmp_path, sightings)
    assert set(layouts.read("viper", tmp_path, domain="street").frame["domain"]) == {"street"}


@pytest.mark.parametrize(("name", "write"), [("viper", write_viper), ("prid2011", write_prid2011)])
def test_random_halves_are_asked_for_by_an_option(
    name: str, write: Writer, tmp_path: Path, sightings: pd.DataFrame
) -> None:
    write(tmp_path, sightings)
    assert layouts.read(name, tmp_path).random_splits == 0
    layouts.read(name, tmp_path, splits=10).save(tmp_path / "prepared")
    assert Manifest.load(tmp_path / "prepared").random_splits == 10
    with pytest.raises(InputError, match="options.splits must be 0 or more, got -1"):
        layouts.read(name, tmp_path, splits=-1)


def test_relative_root_stays_relative(tmp_path: Path, sightings: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    write_viper(tmp_path / "raw/viper", sightings)
    monkeypatch.chdir(tmp_path)
    assert layouts.read("viper", Path("raw/viper")).root == Path("raw/viper")


def test_a_target_that_nobody_is_trained_on_needs_no_folder_of_training_images(
    tmp_path: Path, sightings: pd.DataFrame
) -> None:
    write_market1501(tmp_path, sightings[sightings["split"] != "train"])
    expected = layouts.read("market1501", tmp_path).frame
    shutil.rmtree(tmp_path / "bounding_box_train", ignore_errors=True)  # as git and DVC do with an empty folder
    pd.testing.assert_frame_equal(layouts.read("market1501", tmp_path).frame, expected)


def test_person_in_train_and_test_is_refused(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_market1501(tmp_path, sightings)
    write_noise(tmp_path / "query/0001_c1s1_000001_00.jpg", 0)
    with pytest.raises(
        InputError, match=r"1 people are in both train and test:\n  pid 1: bounding_box_train/0001_.* and query/0001_"
    ):
        layouts.read("market1501", tmp_path)


def test_unknown_layout_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'market'.*market1501.*table"):
        layouts.read("market", tmp_path)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("market1501", "official_time"), ("msmt17", "combine_all"), ("viper", "splits"), ("cuhk03np", "none")],
)
def test_unknown_option_is_refused_with_the_allowed_ones(name: str, allowed: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name}: unknown options fast, allowed: {allowed}"):
        layouts.read(name, tmp_path, fast=True)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: must be an existing folder"):
        layouts.read("viper", tmp_path / "nowhere")


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    for camera in ("cam_a", "cam_b"):
        (tmp_path / camera).mkdir()
    with pytest.raises(InputError, match="must hold at least one image"):
        layouts.read("viper", tmp_path)
