"""A table of sightings may lack people, name its cameras, and have dates for times."""

from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qaconv.data.layouts.table import COLUMNS, MOST_QUERIES, read, read_rows, split_unlabelled
from qaconv.data.layouts.table_file import OTHER_NAMES
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.times import UNIX_EPOCH


def make_sightings(count: int = 4, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"image": [f"a/{number}.jpg" for number in range(count)], **columns})


def read_frame(rows: pd.DataFrame, folder: Path, name: str = "shop.csv") -> Manifest:
    path = folder / name
    (rows.to_csv if path.suffix == ".csv" else rows.to_parquet)(path, index=False)
    return read(path, "shop")


def test_images_alone_are_sightings_of_unknown_people_on_one_camera(tmp_path: Path) -> None:
    manifest = read_frame(make_sightings(30), tmp_path)
    frame = manifest.frame
    assert set(frame["pid"]) == {UNLABELLED} and set(frame["camid"]) == {0} and frame["time_s"].isna().all()
    assert frame["split"].value_counts().to_dict() == {"gallery": 27, "query": 3}
    assert (manifest.cameras, manifest.time_origin, manifest.is_labelled) == ({}, "", False)


def test_queries_are_the_sightings_whose_names_have_the_smallest_digests(tmp_path: Path) -> None:
    rows = make_sightings(40)
    queries = read_frame(rows, tmp_path).split("query")["image"]
    by_digest = sorted(rows["image"], key=lambda image: sha256(image.encode()).hexdigest())
    assert sorted(queries) == sorted(by_digest[:4])
    assert sorted(read_frame(rows[::-1], tmp_path).split("query")["image"]) == sorted(queries)


@pytest.mark.parametrize(("count", "queries"), [(1, 1), (19, 1), (20, 2), (6000, MOST_QUERIES)])
def test_a_tenth_of_the_sightings_are_queries_one_at_least_and_500_at_most(count: int, queries: int) -> None:
    rows = make_sightings(count, pid=UNLABELLED, split="", track="")
    assert (split_unlabelled(rows) == "query").sum() == queries


def test_sightings_of_a_track_are_drawn_together(tmp_path: Path) -> None:
    rows = make_sightings(60, track=[f"t{number // 3}" if number < 45 else "" for number in range(60)])
    manifest = read_frame(rows, tmp_path)
    splits = manifest.frame[manifest.frame["track"] != ""].groupby("track")["split"].nunique()
    assert len(splits) == 15 and set(splits) == {1}
    assert 1 <= len(manifest.split("query")) <= 6
    one_track = read_frame(make_sightings(5, track="t"), tmp_path)
    assert set(one_track.frame["split"]) == {"query"}


def test_labelled_rows_keep_their_split_next_to_sightings_without_labels(tmp_path: Path) -> None:
    rows = make_sightings(13, pid=[7, 7, None, *[None] * 10], split=["query", "gallery", "gallery", *[None] * 10])
    manifest = read_frame(rows, tmp_path)
    known = manifest.frame.set_index("image").loc[["a/0.jpg", "a/1.jpg", "a/2.jpg"]]
    assert known["split"].tolist() == ["query", "gallery", "gallery"]
    assert known["pid"].tolist() == [7, 7, UNLABELLED]
    assert manifest.is_labelled and len(manifest.split("query")) == 2


def test_a_target_is_labelled_by_a_known_person_among_queries_and_gallery(tmp_path: Path) -> None:
    for pids, is_labelled in (([1, 2], True), ([1, -1], False), ([-1, 2], False), ([1, None], False)):
        rows = make_sightings(2, pid=pd.array(pids, "Int64"), split=["query", "gallery"])
        assert read_frame(rows, tmp_path).is_labelled == is_labelled


def test_training_image_without_a_person_is_refused_by_row(tmp_path: Path) -> None:
    rows = make_sightings(2, pid=[1, None], split="train")
    with pytest.raises(InputError, match=r"1 rows are for training and have no pid.*\n  row 2: a/1\.jpg,,train"):
        read_frame(rows, tmp_path)


def test_cameras_get_numbers_in_the_order_of_their_names(tmp_path: Path) -> None:
    manifest = read_frame(make_sightings(4, camid=["roof", "Ädelgatan", "lift 2", "roof"]), tmp_path)
    assert manifest.cameras == {0: "lift 2", 1: "roof", 2: "Ädelgatan"}
    assert manifest.frame.sort_values("image")["camid"].tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("camids", "cameras", "numbers"),
    [
        (["3", "10", "3.0", "0"], {}, [3, 10, 3, 0]),
        (["3", "10", "roof", "0"], {0: "0", 1: "10", 2: "3", 3: "roof"}, [2, 1, 3, 0]),
    ],
)
def test_numbers_stay_camera_numbers_unless_a_name_is_among_them(
    camids: list[str], cameras: dict[int, str], numbers: list[int], tmp_path: Path
) -> None:
    manifest = read_frame(make_sightings(4, camid=camids), tmp_path)
    assert manifest.cameras == cameras
    assert manifest.frame.sort_values("image")["camid"].tolist() == numbers


def test_more_cameras_than_a_fit_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shop\.csv: must name at most 10,000 cameras, got 10,001"):
        read_frame(make_sightings(10_001, camid=[f"c{number}" for number in range(10_001)]), tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"time_s": ["2026-11-27T08:15:30.250+01:00", "2026-11-27T07:15:30.25Z", "2026-11-27 02:15:30,25-0500", ""]},
        {"time_ms": [1795763730250, 1795763730250, 1795763730250, None]},
        {"time_ms": ["1795763730250", "1795763730250.0", "1795763730250", ""], "time_s": ""},
    ],
)
@pytest.mark.parametrize("name", ["shop.csv", "shop.parquet"])
def test_dates_and_milliseconds_are_seconds_since_the_unix_epoch(
    name: str, columns: dict[str, Any], tmp_path: Path
) -> None:
    manifest = read_frame(make_sightings(4, **columns), tmp_path, name)
    times = manifest.frame.sort_values("image")["time_s"]
    assert times[times.notna()].tolist() == [1795763730.25] * 3
    assert manifest.time_origin == UNIX_EPOCH


def test_timestamps_of_a_parquet_file_are_dates_if_they_have_a_zone(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-11-27T08:15:30.25"] * 2 + ["NaT"] * 2)
    manifest = read_frame(make_sightings(4, time_s=times.tz_localize("Europe/Oslo")), tmp_path, "shop.parquet")
    assert manifest.frame["time_s"].dropna().tolist() == [1795763730.25] * 2
    with pytest.raises(InputError, match="2 rows have a time_s without a zone"):
        read_frame(make_sightings(4, time_s=times), tmp_path, "shop.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"time_s": ["", "2026-11-27T08:15Z", "12"]},
            "than row 2, must have a date in time_s as there, or none:\n  row 3",
        ),
        ({"time_s": ["1", "2", ""], "time_ms": ["", "", "1795763730250"]}, "than row 1, must have seconds in time_s"),
        ({"time_s": ["", "", "2026-11-27T08:15Z"], "time_ms": ["1795763730250", "", ""]}, "must have milliseconds in"),
    ],
)
def test_a_mixture_of_times_is_refused_with_the_row_that_it_differs_from(
    columns: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        read_frame(make_sightings(3, **columns), tmp_path)
    assert "shop.csv: 1 rows have another kind of time" in str(raised.value) and message in str(raised.value)


@pytest.mark.parametrize(("name", "column"), OTHER_NAMES.items())
def test_another_name_of_a_column_is_refused_instead_of_ignored(name: str, column: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"a column must be named '{column}', got '{name.title()}'"):
        read_frame(make_sightings(2, **{name.title(): "1"}), tmp_path)
    sound = {"pid": "1", "camid": "1", "time_s": "1", "split": ["query", "gallery"]}
    assert len(read_frame(make_sightings(2, **sound, **{name: "x"}), tmp_path).frame) == 2


def test_a_link_among_the_images_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    (folder / "a").mkdir(parents=True)
    (folder / "a/0.jpg").symlink_to(folder / "b.jpg")
    assert len(read_frame(make_sightings(1), folder).frame) == 1
    (folder / "a/1.jpg").symlink_to(tmp_path / "b.jpg")
    with pytest.raises(InputError, match=r"1 rows have an image that leads out of the folder .*\n  row 2: a/1\.jpg"):
        read_frame(make_sightings(2), folder)


def test_twenty_thousand_rows_are_read_and_checked_in_seconds(tmp_path: Path) -> None:
    count = 20_000
    numbers = np.arange(count)
    rows = make_sightings(
        count,
        camid=np.char.add("camera ", (numbers % 20).astype(str)),
        time_ms=1795763730250 + 40 * numbers,
        track=np.char.add("t", (numbers // 20 + count * (numbers % 20)).astype(str)),
    )
    rows.to_csv(tmp_path / "shop.csv", index=False)
    began = perf_counter()
    manifest = read(tmp_path / "shop.csv", "shop")
    assert perf_counter() - began < 3  # measured: 0.25 s
    assert (len(manifest.frame), len(manifest.cameras)) == (count, 20)


def test_the_rows_have_what_was_sent(tmp_path: Path) -> None:
    rows = make_sightings(2, camid=["roof", "3"], time_s=["2026-11-27T08:15Z", ""], order=["1", ""], track=["t", ""])
    rows.to_csv(tmp_path / "shop.csv", index=False)
    table = read_rows(tmp_path / "shop.csv")
    assert table.rows["camera"].tolist() == ["roof", "3"] and table.rows["split"].tolist() == ["", ""]
    assert table.rows["track"].tolist() == ["t", ""] and table.rows["order"].isna().tolist() == [False, True]
    assert set(COLUMNS) - {"time_ms"} <= set(table.rows)
