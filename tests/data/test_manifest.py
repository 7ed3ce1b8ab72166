"""The manifest refuses impossible rows, and its files depend only on its content."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.data.manifest import UNLABELLED, Manifest, is_measured
from qaconv.errors import InputError
from qaconv.times import UNIX_EPOCH

ROWS = [
    ("train/1.jpg", 1, 0, 0.25, "train", "campus"),
    ("train/2.jpg", 2, 1, np.nan, "train", "campus"),
    ("query/3.jpg", 3, 0, 12.5, "query", "campus"),
    ("test/3.jpg", 3, 2, 80.0, "gallery", "campus"),
    ("test/0.jpg", 0, 2, 81.0, "gallery", "campus"),
    ("test/-1.jpg", -1, 2, 82.0, "gallery", "campus"),
]
COLUMNS = ["image", "pid", "camid", "time_s", "split", "domain"]


def make_frame(rows: list[tuple[Any, ...]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def frame_with(column: str, value: Any) -> pd.DataFrame:
    """Replace the value of a column in the first row."""
    frame = make_frame()
    return frame.assign(**{column: pd.Series([value, *frame[column].iloc[1:]])})


def saved_bytes(manifest: Manifest) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        manifest.save(Path(folder) / "m")
        return {path.name: path.read_bytes() for path in (Path(folder) / "m").iterdir()}


@settings(max_examples=30, deadline=None)
@given(st.permutations(ROWS))
def test_order_of_rows_changes_no_byte(rows: list[tuple[Any, ...]]) -> None:
    manifest = Manifest(make_frame(rows), Path("raw"))
    assert saved_bytes(manifest) == saved_bytes(Manifest(make_frame(), Path("raw")))


def test_load_returns_the_saved_manifest(tmp_path: Path) -> None:
    clocks = [{"camid": 2, "kind": "reset", "time_s": 80.0, "detail": "falls by 40 s", "done": "mended"}]
    manifest = Manifest(
        make_frame(),
        Path("raw/campus"),
        {"version": "1"},
        images_digest="abc",
        clocks=clocks,
        cameras={0: "entrance", 2: "roof"},
        time_origin=UNIX_EPOCH,
    )
    manifest.save(tmp_path / "m")
    loaded = Manifest.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.frame, manifest.frame)
    assert (loaded.root, loaded.notes, loaded.digest) == (Path("raw/campus"), {"version": "1"}, manifest.digest)
    assert (loaded.clocks, loaded.cameras, loaded.time_origin) == (clocks, manifest.cameras, UNIX_EPOCH)
    assert saved_bytes(loaded) == saved_bytes(manifest)


def test_digest_depends_on_table_and_images_but_not_on_their_folder() -> None:
    manifest = Manifest(make_frame(), Path("raw"))
    relabelled = make_frame().assign(camid=[0, 1, 0, 2, 2, 1])
    assert Manifest(make_frame(), Path("/elsewhere")).digest == manifest.digest
    assert Manifest(make_frame(), Path("raw"), images_digest="abc").digest != manifest.digest
    assert Manifest(relabelled, Path("raw")).digest != manifest.digest


def test_splits_come_in_order_and_paths_follow_the_frame() -> None:
    manifest = Manifest(make_frame(ROWS[::-1]), Path("raw"))
    assert manifest.frame["split"].tolist() == ["train"] * 2 + ["query"] + ["gallery"] * 3
    assert manifest.paths()[0] == Path("raw/train/1.jpg")
    assert manifest.split("gallery").index.tolist() == [0, 1, 2]


def test_summary_counts_people_without_junk() -> None:
    summary = Manifest(make_frame(), Path("raw")).summary()
    assert summary["images"] == 6
    assert summary["splits"]["train"] == {"images": 2, "pids": 2, "junk": 0, "unlabelled": 0, "cameras": [0, 1]}
    assert summary["splits"]["gallery"] == {"images": 3, "pids": 2, "junk": 1, "unlabelled": 0, "cameras": [2]}
    assert (summary["time_span_s"], summary["images_without_time"]) == ([0.25, 82.0], 1)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("split", "val", "have a split that is none of train, query, gallery"),
        ("camid", -1, "have no camera id"),
        ("pid", -3, "have a pid below -2"),
        ("camid", 10**6, "have a camera id above 9,999"),
        ("pid", 2**60, "have a pid above"),
        ("time_s", np.inf, "have a time_s that is neither empty nor seconds from -1e"),
        ("time_s", -1764211494000.0, "have a time_s that is neither empty nor seconds from -1e"),
        ("image", "test/0.jpg", "appear twice"),
        ("image", "/train/1.jpg", "have a path that begins with / or goes up by .."),
        ("image", "train/../../1.jpg", "have a path that begins with / or goes up by .."),
    ],
)
def test_impossible_row_is_named(column: str, value: Any, fault: str) -> None:
    frame = frame_with(column, value)
    with pytest.raises(InputError, match=f"raw: . images {fault}") as refusal:
        Manifest(frame, Path("raw"))
    assert frame["image"].iloc[0] in str(refusal.value)


@pytest.mark.parametrize(("pid", "test_image"), [(3, "query/3.jpg"), (0, "test/0.jpg")])
def test_person_in_train_and_test_is_named_with_an_image_of_each(pid: int, test_image: str) -> None:
    frame = frame_with("pid", pid)
    with pytest.raises(InputError, match=rf"1 people .* train and test:\n  pid {pid}: train/1\.jpg and {test_image}"):
        Manifest(frame, Path("raw"))


def test_junk_may_be_in_train_and_test() -> None:
    frame = frame_with("pid", -1)
    assert len(Manifest(frame, Path("raw")).frame) == 6


def test_same_pid_in_train_and_test_of_two_networks_is_two_people() -> None:
    frame = frame_with("pid", 3).assign(domain=["mall", *["campus"] * 5])
    assert len(Manifest(frame, Path("raw")).frame) == 6


@pytest.mark.parametrize(("column", "value"), [("pid", "alice"), ("camid", None), ("time_s", "noon")])
def test_value_of_the_wrong_type_is_refused(column: str, value: Any) -> None:
    with pytest.raises(InputError, match="a value of the wrong type"):
        Manifest(frame_with(column, value), Path("raw"))


def test_missing_column_is_named() -> None:
    with pytest.raises(InputError, match=r"\['camid'\] are missing in the manifest, got \['domain', 'image'"):
        Manifest(make_frame().drop(columns="camid"), Path("raw"))


def test_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: must hold manifest.parquet"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("manifest.parquet", b"PAR1"), ("summary.json", b"{"), ("summary.json", b"{}")]
)
def test_damaged_manifest_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    Manifest(make_frame(), Path("raw")).save(tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(content)
    with pytest.raises(InputError, match="m: cannot be read as a manifest: "):
        Manifest.load(tmp_path / "m")


def test_unlabelled_sighting_is_for_testing_only() -> None:
    frame = make_frame()
    sightings = Manifest(frame.assign(pid=frame["pid"].where(frame["split"] == "train", UNLABELLED)), Path("raw"))
    assert sightings.summary()["splits"]["gallery"]["unlabelled"] == 3
    assert sightings.summary()["splits"]["gallery"]["pids"] == 0
    with pytest.raises(InputError, match=r"1 images are for training and have no pid:\n  train/1\.jpg"):
        Manifest(frame_with("pid", UNLABELLED), Path("raw"))


@pytest.mark.parametrize(
    ("unlabelled", "is_labelled", "measured"),
    [
        ((), True, ["query/3.jpg", "test/0.jpg", "test/3.jpg"]),
        (("test/0.jpg",), True, ["query/3.jpg", "test/3.jpg"]),
        (("query/3.jpg",), False, ["query/3.jpg", "test/0.jpg", "test/3.jpg"]),
        (("test/0.jpg", "test/3.jpg"), False, ["query/3.jpg", "test/0.jpg", "test/3.jpg"]),
    ],
)
def test_unlabelled_sightings_are_left_out_only_where_others_are_labelled(
    unlabelled: tuple[str, ...], is_labelled: bool, measured: list[str]
) -> None:
    frame = make_frame()
    pids = frame["pid"].where(~frame["image"].isin(unlabelled), UNLABELLED)
    manifest = Manifest(frame.assign(pid=pids), Path("raw"))
    sightings = manifest.sightings()
    assert manifest.is_labelled == is_labelled
    assert sightings.loc[is_measured(sightings), "image"].tolist() == measured


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("camid", 0, "1 tracks are on two cameras:\n  track 7: test/0.jpg and test/3.jpg"),
        ("pid", 4, "1 tracks have two pids:\n  track 7: test/0.jpg and test/3.jpg"),
        ("split", "query", "1 tracks are in two splits:\n  track 7: test/0.jpg and test/3.jpg"),
    ],
)
def test_track_in_two_places_is_named_with_both_images(column: str, value: Any, fault: str) -> None:
    rows = make_frame().assign(track=["", "", "", "7", "7", ""])
    rows.loc[4, "pid"] = 3
    assert Manifest(rows, Path("raw")).frame["track"].tolist().count("7") == 2
    rows.loc[4, column] = value
    with pytest.raises(InputError) as raised:
        Manifest(rows, Path("raw"))
    assert fault in str(raised.value)
