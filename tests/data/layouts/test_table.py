"""A table of your own images is read, and every impossible value is shown with its row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qaconv.data import layouts
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import assert_reads_as, write_noise, write_table


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    """Make three valid rows with their images in tmp_path."""
    for number in range(3):
        write_noise(tmp_path / f"crops/{number}.jpg", number)
    return pd.DataFrame(
        {
            "image": [f"crops/{number}.jpg" for number in range(3)],
            "pid": [7, 8, 8],
            "camid": [0, 0, 1],
            "time_s": [0.25, 1.5, 3.75],
            "split": ["train", "query", "gallery"],
        }
    )


def save(rows: pd.DataFrame, path: Path) -> Path:
    (rows.to_csv if path.suffix == ".csv" else rows.to_parquet)(path, index=False)
    return path


@pytest.mark.parametrize("name", ["shop.csv", "shop.parquet"])
def test_table_reads_back_to_the_truth(name: str, tmp_path: Path, sightings: pd.DataFrame) -> None:
    truth = write_table(tmp_path / name, sightings)
    manifest = layouts.read("table", tmp_path / name)
    assert_reads_as(manifest, truth, 0)
    assert manifest.root == tmp_path


def test_folder_stands_for_its_table_of_sightings(tmp_path: Path, rows: pd.DataFrame) -> None:
    save(rows, tmp_path / "sightings.csv")
    manifest = layouts.read("table", tmp_path)
    assert (len(manifest.frame), manifest.root) == (3, tmp_path)


@pytest.mark.parametrize("name", ["shop.csv", "shop.parquet"])
def test_empty_time_is_unknown(name: str, tmp_path: Path, rows: pd.DataFrame) -> None:
    rows.loc[1, "time_s"] = np.nan
    times = layouts.read("table", save(rows, tmp_path / name)).frame["time_s"]
    assert times.isna().sum() == 1
    assert layouts.read("table", save(rows.assign(time_s=None), tmp_path / name)).frame["time_s"].isna().all()


@pytest.mark.parametrize("name", ["shop.csv", "shop.parquet"])
@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("camid", None, "have no camid"),
        ("camid", -1, "have a camid that is not a whole number in 0..9,999"),
        ("camid", 0.5, "have a camid that is not a whole number in 0..9,999"),
        ("camid", "lobby ", "have a camid that is not 1 to 100 printable characters without outer spaces"),
        ("camid", "l" * 101, "have a camid that is not 1 to 100 printable characters without outer spaces"),
        ("camid", 1e15, "have a camid that is not a whole number in 0..9,999"),
        ("pid", -2, "have a pid that is neither empty nor a whole number in -1.."),
        ("pid", "alice", "have a pid that is neither empty nor a whole number in -1.."),
        ("time_s", "09:30", "have a time_s that is neither empty nor seconds from -1e"),
        ("time_s", np.inf, "have a time_s that is neither empty nor seconds from -1e"),
        ("time_s", "2026-11-27T08:15", "have a time_s without a zone, must be a date with time and zone in ISO 8601"),
        (
            "time_s",
            "2026-11-27 08:15:30.5",
            "have a time_s without a zone, must be a date with time and zone in ISO 8601",
        ),
        ("time_s", "2026-06-31T08:15:30Z", "have a time_s that is neither empty nor seconds from .* nor a date"),
        ("time_s", "9999-01-01T00:00Z", "have a time_s that is neither empty nor seconds from .* nor a date"),
        ("time_s", "2026-11-27T08:15Z", "have another kind of time than row 1, must have seconds in time_s as there"),
        ("time_ms", 1764211494, "have a time_ms that is neither empty nor Unix milliseconds from"),
        ("time_ms", "2026-11-27T08:15Z", "have a time_ms that is neither empty nor Unix milliseconds from"),
        ("time_ms", 1764211494000, "fill both time_s and time_ms, must fill one of them at most"),
        ("track", " 7", "have a track that is neither empty nor 1 to 100 printable characters"),
        ("time_s", -1e300, "have a time_s that is neither empty nor seconds from -1e"),
        ("time_s", 1764211494000, "have a time_s that is neither empty nor seconds from -1e"),
        ("split", "test", "have a split that is none of train, query, gallery"),
        ("split", None, "have a pid and no split, which must be one of train, query, gallery"),
        ("image", None, "have no image"),
        ("image", "../1.jpg", "have an image that leads out of the folder"),
        ("image", "/etc/hostname", "have an image that leads out of the folder"),
    ],
)
def test_impossible_value_is_shown_with_its_row(
    name: str, column: str, value: Any, fault: str, tmp_path: Path, rows: pd.DataFrame
) -> None:
    mixed = rows.get(column, pd.Series(None, rows.index)).astype(object)
    mixed[1] = value
    if isinstance(value, str):
        mixed = mixed.where(mixed.isna(), mixed.astype(str))  # a Parquet column has one type
    path = save(rows.assign(**{column: mixed}), tmp_path / name)
    with pytest.raises(InputError, match=f"1 rows {fault}") as refusal:
        layouts.read("table", path)
    assert str(path) in str(refusal.value)
    assert "\n  row 2: " in str(refusal.value)


@pytest.mark.parametrize("name", ["shop.csv", "shop.parquet"])
def test_clock_that_was_reset_is_corrected_by_the_order_of_recording(
    name: str, tmp_path: Path, rows: pd.DataFrame
) -> None:
    again = rows.assign(camid=[0, 0, 0], time_s=[40.0, 500.0, 20.0])
    assert layouts.read("table", save(again, tmp_path / name)).clocks == []
    manifest = layouts.read("table", save(again.assign(order=[1, 2, 3]), tmp_path / name))
    assert manifest.frame["time_s"].tolist() == [40, 500, 500]
    findings = [(finding["kind"], finding["time_s"], finding["done"]) for finding in manifest.clocks]
    assert findings == [("reset", 20, "mended")]


def test_order_that_is_not_a_number_is_shown_with_its_row(tmp_path: Path, rows: pd.DataFrame) -> None:
    path = save(rows.assign(order=[1, "late", 3]), tmp_path / "shop.csv")
    with pytest.raises(InputError, match=r"1 rows have an order that is neither a number nor empty:\n  row 2: "):
        layouts.read("table", path)


def test_many_rows_without_a_camera_are_counted(tmp_path: Path, rows: pd.DataFrame) -> None:
    path = save(pd.concat([rows] * 5, ignore_index=True).assign(camid=None), tmp_path / "shop.csv")
    with pytest.raises(InputError, match=r"15 rows have no camid(.|\n)*15 in all"):
        layouts.read("table", path)


def test_image_that_a_link_leads_elsewhere_is_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/crops").symlink_to(tmp_path / "crops")
    with pytest.raises(InputError, match="3 rows have an image that leads out of the folder"):
        layouts.read("table", save(rows, tmp_path / "shop/shop.csv"))


def test_image_named_twice_is_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    twice = rows.assign(image=rows["image"].iloc[[0, 1, 1]].to_numpy())
    with pytest.raises(InputError, match=r"appear twice:\n  crops/1\.jpg"):
        layouts.read("table", save(twice, tmp_path / "shop.csv"))


def test_missing_column_is_named(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="must have the column image, got pid, camid, time_s, split"):
        layouts.read("table", save(rows.drop(columns="image"), tmp_path / "shop.csv"))


@pytest.mark.parametrize(
    ("name", "content"), [("no.csv", None), ("empty.csv", b""), ("bad.csv", b"\xff\xfe\x00"), ("bad.parquet", b"PAR1")]
)
def test_file_that_is_not_a_table_is_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: cannot be read as a table"):
        layouts.read("table", tmp_path / name)


def test_table_of_another_kind_is_refused_with_the_two_allowed_kinds(tmp_path: Path) -> None:
    (tmp_path / "shop.xlsx").touch()
    with pytest.raises(InputError, match=r"shop\.xlsx: a table must be a \.csv or a \.parquet file"):
        layouts.read("table", tmp_path / "shop.xlsx")


def test_table_without_rows_is_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"shop\.csv: has no sightings, must have at least one row"):
        layouts.read("table", save(rows[:0], tmp_path / "shop.csv"))


def test_order_of_rows_changes_no_byte_of_the_manifest(tmp_path: Path, rows: pd.DataFrame) -> None:
    saved = []
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        manifest = layouts.read("table", save(rows.loc[order], tmp_path / "shop.csv"))
        manifest.save(tmp_path / str(number))
        saved.append([(tmp_path / str(number) / name).read_bytes() for name in ("manifest.parquet", "summary.json")])
    assert saved[0] == saved[1]


def end_lines(path: Path, end: str, first: int) -> Path:
    """Add `end` to every line of a file from the line `first`, which counts from 0."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line + end * (number >= first) for number, line in enumerate(lines)))
    return path


def test_comma_after_the_last_value_of_each_row_moves_no_value(tmp_path: Path, rows: pd.DataFrame) -> None:
    path = save(rows, tmp_path / "shop.csv")
    frame = layouts.read("table", path).frame
    pd.testing.assert_frame_equal(layouts.read("table", end_lines(path, ",", first=1)).frame, frame)


@pytest.mark.parametrize(("first", "message"), [(1, "more values than the header"), (3, "line 4, saw 6")])
def test_value_too_many_is_called_so(first: int, message: str, tmp_path: Path, rows: pd.DataFrame) -> None:
    path = end_lines(save(rows, tmp_path / "shop.csv"), ",x", first)
    with pytest.raises(InputError, match=f"shop.csv: cannot be read as a table: .*{message}"):
        layouts.read("table", path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split\n", "split,pid\n", "each column must stand once, got pid twice or more"),
        ("image,pid", "image,PID", "a column must be named 'pid', got 'PID'"),
        ("pid,camid", "pid, camid", "a column must be named 'camid', got ' camid'"),
        ("split\n", "split,Order\n", "a column must be named 'order', got 'Order'"),
        (",", ";", "must have the columns .* with commas between, got 'image;pid"),
        (",", "\t", r"must have the columns .* with commas between, got 'image\\tpid"),
        ("crops/", "crops\\", r"3 images must have / between folders, got \\:\n  crops"),
        ("split\n", "split\u00e9\n", "cannot be read as a table: must be UTF-8"),
    ],
)
def test_form_of_another_program_is_refused_with_the_form_that_is_read(
    old: str, new: str, message: str, tmp_path: Path, rows: pd.DataFrame
) -> None:
    path = save(rows, tmp_path / "shop.csv")
    text = path.read_text().replace(old, new)
    if new.startswith("split,"):  # a further column
        text = text.replace("train\n", "train,1\n").replace("query\n", "query,1\n").replace("gallery\n", "gallery,1\n")
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=rf"shop\.csv: {message}"):
        layouts.read("table", path)


def test_column_that_stands_twice_in_a_parquet_file_is_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(rows).append_column("pid", pa.array([1, 2, 3]))
    pq.write_table(table, tmp_path / "shop.parquet")
    with pytest.raises(InputError, match=r"shop\.parquet: each column must stand once, got pid twice"):
        layouts.read("table", tmp_path / "shop.parquet")


def test_table_that_does_not_exist_is_named_once(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "shop.csv", tmp_path):
        with pytest.raises(InputError, match=r"(nowhere|shop\.csv|sightings\.csv): cannot be read .*: does not exist$"):
            layouts.read("table", path)
