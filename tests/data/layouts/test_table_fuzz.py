"""Whatever a table holds, reading it gives a checked manifest or one error that names the file."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qaconv.data.layouts.table import COLUMNS, read
from qaconv.errors import InputError
from tests.odd_values import odd_texts

pytestmark = pytest.mark.fuzz
SOUND = {
    "image": st.from_regex(r"[a-c]/[0-9]{1,3}\.jpg", fullmatch=True),
    "pid": st.sampled_from(["1", "2", "0", "-1", ""]),
    "camid": st.sampled_from(["0", "1", "2", "roof"]),
    "time_s": st.sampled_from(["", "0", "10.5", "86400", "2026-11-27T08:15:30+01:00"]),
    "time_ms": st.just(""),
    "split": st.sampled_from(["query", "gallery"]),
    "order": st.sampled_from(["1", "2", "3"]),
    "track": st.sampled_from(["", "7"]),
}
HEAD = b"image,pid,camid,time_s,split\na.jpg,1,0,1.5,query\n"
names = st.lists(st.sampled_from([*COLUMNS, "comment", "camera"]), min_size=1, max_size=7)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """Return a header and rows, most of them sound, some values odd, some rows of another length."""
    header = draw(st.one_of(st.just(list(COLUMNS)), names))
    odd = draw(st.floats(0, 0.3))
    rows = [header]
    for _ in range(draw(st.integers(0, 8))):
        row = [
            draw(odd_texts) if draw(st.floats(0, 1)) < odd else draw(SOUND.get(name, st.just(""))) for name in header
        ]
        rows.append(row + [""] * draw(st.sampled_from([0, 0, 0, 0, 1])))
    return rows


def check(path: Path) -> None:
    try:
        frame = read(path, "shop").frame
    except InputError as error:
        assert path.parent.as_posix() in str(error)
    else:
        assert frame["camid"].ge(0).all() and not np.isinf(frame["time_s"]).any()
        assert frame["image"].map(lambda image: (path.parent / image).resolve().is_relative_to(path.parent)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=tables())
def test_a_table_of_odd_values_is_read_or_refused_by_name(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "sightings.csv"
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        csv.writer(file).writerows(rows)
    check(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=50).map(lambda tail: HEAD + tail)))
@pytest.mark.parametrize("name", ["sightings.csv", "sightings.parquet"])
def test_any_bytes_are_read_or_refused_by_name(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    check(path)
