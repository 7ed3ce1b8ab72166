"""Market-1501's names, and its six sessions on one clock."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.data import layouts
from qaconv.data.layouts import market1501
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import write_noise

Seen = tuple[int, int, int]  # camera, session, frame


def read_times(seen: set[Seen], **options: bool) -> dict[Seen, float]:
    """Return the times that the reader gives to empty files with these names."""
    names = {
        f"0001_c{camera}s{session}_{frame:06d}_00.jpg": (camera, session, frame) for camera, session, frame in seen
    }
    with TemporaryDirectory() as folder:
        for split in market1501.FOLDERS.values():
            (Path(folder) / split).mkdir()
        for name in names:
            (Path(folder) / "query" / name).touch()
        frame = market1501.read(Path(folder), "market", **options).frame
    return {names[Path(image).name]: time_s for image, time_s in zip(frame["image"], frame["time_s"], strict=True)}


def test_session_begins_where_the_cameras_earlier_ones_end() -> None:
    times = read_times({(1, 1, 250), (1, 2, 25), (1, 2, 500), (1, 3, 25), (2, 2, 25)})
    assert times == {(1, 1, 250): 10, (1, 2, 25): 11, (1, 2, 500): 30, (1, 3, 25): 31, (2, 2, 25): 1}


def test_official_time_adds_earlier_offsets_again() -> None:
    sessions = {(1, session, 10) for session in range(1, 5)}
    assert sorted(read_times(sessions).values()) == [10 / 25, 20 / 25, 30 / 25, 40 / 25]
    assert sorted(read_times(sessions, official_time=True).values()) == [10 / 25, 20 / 25, 40 / 25, 80 / 25]


@settings(max_examples=50, deadline=None)
@given(
    st.sets(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(0, 10_000)), min_size=1, max_size=20),
    st.booleans(),
)
def test_time_of_a_camera_never_goes_back(seen: set[Seen], official_time: bool) -> None:
    times = read_times(seen, official_time=official_time)
    for earlier, later in pairwise(sorted(seen)):
        if earlier[0] == later[0]:
            assert times[earlier] <= times[later]
        if earlier[:2] == later[:2]:
            assert times[later] - times[earlier] == pytest.approx((later[2] - earlier[2]) / 25)


def test_longest_session_of_any_split_counts_and_junk_does_not(tmp_path: Path) -> None:
    for seed, name in enumerate(
        (
            "bounding_box_train/0002_c1s1_000025_01.jpg",
            "query/0001_c1s2_000000_00.jpg",
            "bounding_box_test/0001_c1s1_000100_01.jpg",
            "bounding_box_test/-1_c1s1_000500_01.jpg",
        )
    ):
        write_noise(tmp_path / name, seed)
    assert layouts.read("market1501", tmp_path).split("query")["time_s"].tolist() == [4.0]


def test_joined_sessions_are_recorded_as_findings(tmp_path: Path) -> None:
    for folder in market1501.FOLDERS.values():
        (tmp_path / folder).mkdir()
    for name in ("0001_c2s1_000250_00.jpg", "0001_c2s2_000025_00.jpg", "0001_c1s1_000025_00.jpg"):
        (tmp_path / "query" / name).touch()
    clocks = market1501.read(tmp_path, "market").clocks
    assert [(finding["camid"], finding["kind"], finding["time_s"]) for finding in clocks] == [(1, "reset", 10.0)]


def test_doubled_suffix_and_what_file_managers_leave_are_as_in_the_original(tmp_path: Path) -> None:
    write_noise(tmp_path / "query/1488_c1s6_023021_00.jpg.jpg", 0)
    for folder in market1501.FOLDERS.values():
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "Thumbs.db").touch()
        (tmp_path / folder / ".DS_Store").touch()
    assert layouts.read("market1501", tmp_path).frame["pid"].tolist() == [1488]


def test_junk_stays_junk_and_distractors_stay_0(tmp_path: Path) -> None:
    for folder in market1501.FOLDERS.values():
        (tmp_path / folder).mkdir()
    write_noise(tmp_path / "bounding_box_test/-1_c1s1_000451_03.jpg", 0)
    write_noise(tmp_path / "bounding_box_test/0000_c1s1_000451_03.jpg", 1)
    assert layouts.read("market1501", tmp_path).frame["pid"].tolist() == [-1, 0]


def test_name_without_a_camera_is_refused(tmp_path: Path) -> None:
    for folder in market1501.FOLDERS.values():
        (tmp_path / folder).mkdir()
    for name in ("0002_s1_000451_03.jpg", "0002_c0s1_000451_03.jpg"):
        (tmp_path / "query" / name).touch()
    with pytest.raises(ValueError, match=r"2 names do not have the form(.|\n)*0002_c0s1(.|\n)*0002_s1"):
        layouts.read("market1501", tmp_path)


def test_number_that_no_integer_of_64_bits_holds_is_refused_by_its_name(tmp_path: Path) -> None:
    for split in market1501.FOLDERS.values():
        (tmp_path / split).mkdir()
    name = "99999999999999999999_c1s1_000001_00.jpg"
    (tmp_path / "query" / name).touch()
    with pytest.raises(InputError, match=rf"1 names have a number of more than 18 digits:\n  query/{name}"):
        market1501.read(tmp_path, "market")


def test_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    for split in market1501.FOLDERS.values():
        (tmp_path / split).touch()
    with pytest.raises(InputError, match="bounding_box_train, query, bounding_box_test must be a folder of images"):
        market1501.read(tmp_path, "market")
