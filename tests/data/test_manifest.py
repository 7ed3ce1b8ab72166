"""The manifest refuses what cannot be meant, and its files depend on nothing but its content."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.data.manifest import Manifest
from qaconv.errors import InputError

ROWS = [
    ("train/1.jpg", 1, 0, 0.25, "train", "campus"),
    ("train/2.jpg", 2, 1, np.nan, "train", "campus"),
    ("query/3.jpg", 3, 0, 12.5, "query", "campus"),
    ("test/3.jpg", 3, 2, 80.0, "gallery", "campus"),
    ("test/0.jpg", 0, 2, 81.0, "gallery", "campus"),
    ("test/-1.jpg", -1, 2, 82.0, "gallery", "campus"),
]
COLUMNS = ["image", "pid", "camid", "time_s", "split", "domain"]


def frame_of(rows: list[tuple[Any, ...]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def saved_bytes(manifest: Manifest) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        manifest.save(Path(folder) / "m")
        return {path.name: path.read_bytes() for path in (Path(folder) / "m").iterdir()}


@settings(max_examples=30, deadline=None)
@given(st.permutations(ROWS))
def test_order_of_rows_changes_no_byte(rows: list[tuple[Any, ...]]) -> None:
    manifest = Manifest(frame_of(rows), Path("raw"))
    assert saved_bytes(manifest) == saved_bytes(Manifest(frame_of(), Path("raw")))


def test_load_gives_back_what_was_saved(tmp_path: Path) -> None:
    clocks = [{"camid": 2, "kind": "reset", "time_s": 80.0, "detail": "begins anew", "done": "mended"}]
    manifest = Manifest(frame_of(), Path("raw/campus"), {"version": "1"}, images_digest="abc", clocks=clocks)
    manifest.save(tmp_path / "m")
    loaded = Manifest.load(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.frame, manifest.frame)
    assert (loaded.root, loaded.notes, loaded.digest) == (Path("raw/campus"), {"version": "1"}, manifest.digest)
    assert loaded.clocks == clocks
    assert saved_bytes(loaded) == saved_bytes(manifest)


def test_digest_is_of_table_and_images_but_not_of_where_they_lie() -> None:
    manifest = Manifest(frame_of(), Path("raw"))
    relabelled = frame_of().assign(camid=[0, 1, 0, 2, 2, 1])
    assert Manifest(frame_of(), Path("/elsewhere")).digest == manifest.digest
    assert Manifest(frame_of(), Path("raw"), images_digest="abc").digest != manifest.digest
    assert Manifest(relabelled, Path("raw")).digest != manifest.digest


def test_splits_come_in_order_and_paths_follow_the_frame() -> None:
    manifest = Manifest(frame_of(ROWS[::-1]), Path("raw"))
    assert manifest.frame["split"].tolist() == ["train"] * 2 + ["query"] + ["gallery"] * 3
    assert manifest.paths()[0] == Path("raw/train/1.jpg")
    assert manifest.split("gallery").index.tolist() == [0, 1, 2]


def test_summary_counts_people_without_junk() -> None:
    summary = Manifest(frame_of(), Path("raw")).summary()
    assert summary["images"] == 6
    assert summary["splits"]["train"] == {"images": 2, "pids": 2, "junk": 0, "cameras": [0, 1]}
    assert summary["splits"]["gallery"] == {"images": 3, "pids": 2, "junk": 1, "cameras": [2]}
    assert (summary["time_span_s"], summary["images_without_time"]) == ([0.25, 82.0], 1)


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("split", "val", "have a split that is none of train, query, gallery"),
        ("camid", -1, "have no camera id"),
        ("pid", -2, "have a pid below -1"),
        ("time_s", np.inf, "have an infinite time"),
        ("image", "test/0.jpg", "are named twice"),
        ("image", "/train/1.jpg", "are not named by a path below that folder"),
        ("image", "train/../../1.jpg", "are not named by a path below that folder"),
    ],
)
def test_impossible_row_is_named(column: str, value: Any, fault: str) -> None:
    frame = frame_of()
    frame.loc[0, column] = value
    with pytest.raises(InputError, match=f"raw: . images {fault}") as refusal:
        Manifest(frame, Path("raw"))
    assert frame.loc[0, "image"] in str(refusal.value)


@pytest.mark.parametrize(("pid", "of_test"), [(3, "query/3.jpg"), (0, "test/0.jpg")])
def test_person_in_train_and_test_is_named_with_an_image_of_each(pid: int, of_test: str) -> None:
    frame = frame_of()
    frame.loc[0, "pid"] = pid
    with pytest.raises(InputError, match=rf"1 people .* train and test:\n  pid {pid}: train/1\.jpg and {of_test}"):
        Manifest(frame, Path("raw"))


def test_junk_may_be_in_train_and_test() -> None:
    frame = frame_of()
    frame.loc[0, "pid"] = -1
    assert len(Manifest(frame, Path("raw")).frame) == 6


def test_same_pid_in_train_and_test_of_two_networks_is_two_people() -> None:
    frame = frame_of()
    frame.loc[0, ["pid", "domain"]] = [3, "mall"]
    assert len(Manifest(frame, Path("raw")).frame) == 6


@pytest.mark.parametrize(("column", "value"), [("pid", "alice"), ("camid", None), ("time_s", "noon")])
def test_value_of_another_type_is_refused(column: str, value: Any) -> None:
    frame = frame_of().astype({column: object})
    frame.loc[0, column] = value
    with pytest.raises(InputError, match="a value of another type"):
        Manifest(frame, Path("raw"))


def test_missing_column_is_named() -> None:
    with pytest.raises(InputError, match=r"\['camid'\] are missing; it has \['domain', 'image'"):
        Manifest(frame_of().drop(columns="camid"), Path("raw"))


def test_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: holds no manifest.parquet"):
        Manifest.load(tmp_path)
