"""MSMT17's two versions, its lists, and the people of train and test kept apart."""

from pathlib import Path

import pandas as pd
import pytest

from qaconv.data import layouts
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import assert_reads_as, write_msmt17

V2 = ("mask_train_v2", "mask_test_v2")


@pytest.mark.parametrize(("folders", "version"), [(("train", "test"), "MSMT17_V1"), (V2, "MSMT17_V2")])
def test_version_follows_from_the_folders_and_is_noted(
    folders: tuple[str, str], version: str, tmp_path: Path, sightings: pd.DataFrame
) -> None:
    truth = write_msmt17(tmp_path, sightings, folders)
    manifest = layouts.read("msmt17", tmp_path)
    assert_reads_as(manifest, truth, 0)
    assert manifest.summary()["notes"] == {"version": version}


def test_people_of_train_and_test_share_no_pid(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    manifest = layouts.read("msmt17", tmp_path)
    train, query = set(manifest.split("train")["pid"]), set(manifest.split("query")["pid"])
    assert min(train) == 0
    assert min(query) == max(train) + 1


def test_combine_all_trains_on_everybody(tmp_path: Path, sightings: pd.DataFrame) -> None:
    truth = write_msmt17(tmp_path, sightings)
    manifest = layouts.read("msmt17", tmp_path, combine_all=True)
    assert_reads_as(manifest, truth.assign(split="train"), 0)


def test_both_versions_in_one_folder_are_refused(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    for folder in V2:
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match=r"either train and test .* or mask_train_v2 .* got both"):
        layouts.read("msmt17", tmp_path)


def test_lists_without_image_folders_are_refused(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    (tmp_path / "test").rename(tmp_path / "images")
    with pytest.raises(InputError, match="got neither"):
        layouts.read("msmt17", tmp_path)


@pytest.mark.parametrize("line", ["0000/0000_001.jpg 0", "0000/0000_000_01_x_0.jpg", "0000/0000_000_00_x_0.jpg 0", ""])
def test_list_line_that_does_not_parse_is_shown(line: str, tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    with (tmp_path / "list_query.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(InputError, match=f"list_query.txt: 1 names do not have the form(.|\n)*{line}"):
        layouts.read("msmt17", tmp_path)


def test_list_cannot_lead_out_of_the_folder(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    (tmp_path / "list_query.txt").write_text("../../0000_000_01_x_0.jpg 0\n")
    with pytest.raises(InputError, match="have a path that begins with / or goes up by .."):
        layouts.read("msmt17", tmp_path)


def test_listed_image_that_is_missing_is_named(tmp_path: Path, sightings: pd.DataFrame) -> None:
    truth = write_msmt17(tmp_path, sightings)
    (tmp_path / truth["image"].iloc[0]).unlink()
    with pytest.raises(InputError, match=f"1 images cannot be read:\n  {truth['image'].iloc[0]}: No such file"):
        layouts.read("msmt17", tmp_path)


def test_blank_line_of_a_list_is_shown_with_its_number(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    path = tmp_path / "list_val.txt"
    path.write_text("\n" + path.read_text())
    with pytest.raises(InputError, match=r"list_val.txt: 1 names .*:\n  line 1: ''"):
        layouts.read("msmt17", tmp_path)


def test_list_in_another_encoding_is_named(tmp_path: Path, sightings: pd.DataFrame) -> None:
    write_msmt17(tmp_path, sightings)
    (tmp_path / "list_val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="list_val.txt: cannot be read as text in UTF-8"):
        layouts.read("msmt17", tmp_path)
