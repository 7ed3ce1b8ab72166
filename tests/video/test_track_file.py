"""Track files of every writer read to the same boxes, and faults are named with their lines."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.errors import InputError
from qaconv.video.track_file import read_tracks

FRAMES = [1, 1, 2]
TRACKS = [1, 2, 1]
BOXES = [[10.5, 20, 30, 90], [100, 20.25, 31, 80], [12, 20, 30, 91]]
WRITTEN = {
    "ByteTrack": "1,1,10.50,20.00,30.00,90.00,0.91,-1,-1,-1\n1,2,100.00,20.25,31.00,80.00,0.50,-1,-1,-1\n"
    "2,1,12.00,20.00,30.00,91.00,0.90,-1,-1,-1\n",
    "SORT, with spaces and an empty line": "1, 1, 10.5, 20, 30, 90, 1, -1, -1, -1\n\n"
    "1, 2, 100, 20.25, 31, 80, 1, -1, -1, -1\n2, 1, 12, 20, 30, 91, 1, -1, -1, -1",
    "numpy.savetxt": "1.0e+00 1.0e+00 1.05e+01 2.0e+01 3.0e+01 9.0e+01 -1\n"
    "1.0e+00 2.0e+00 1.0e+02 2.025e+01 3.1e+01 8.0e+01 -1\n2.0e+00 1.0e+00 1.2e+01 2.0e+01 3.0e+01 9.1e+01 -1\n",
    "BoxMOT: flag, class, confidence": "1,1,10.5,20,30,90,1,1,0.912345\n1,2,100,20.25,31,80,1,1,0.5\n"
    "2,1,12,20,30,91,1,1,0.9\n1,9,1,1,40,20,1,3,0.9\n",
    "Ultralytics: confidences rounded to 0": "1 1 10.5 20 30 90 0 1 -1\n1 2 100 20.25 31 80 0 1 -1\n"
    "2 1 12 20 30 91 0 1 -1\n",
    "gt.txt, sorted by track, with lines that do not count": "1,1,10.5,20,30,90,1,1,1\n2,1,12,20,30,91,1,1,0.8\n"
    "1,2,100,20.25,31,80,1,1,0.1\n1,3,1,1,9,9,0,1,1\n1,4,1,1,9,9,1,8,1\n",
    "a class before columns of -1": "1,1,10.5,20,30,90,.9,1,-1,-1\n1,2,100,20.25,31,80,.9,1,-1,-1\n"
    "2,1,12,20,30,91,.9,1,-1,-1\n2,8,12,20,30,91,.9,2,-1,-1\n",
    "world coordinates are no classes": "1,1,10.5,20,30,90,1,-6.8,-9.5,0.0\n1,2,100,20.25,31,80,1,3,-9.5,0\n"
    "2,1,12,20,30,91,1,0,1.5,0\n",
    "Windows: a byte order mark, CRLF, trailing commas": "\ufeff1,1,10.5,20,30,90,\r\n1,2,100,20.25,31,80,\r\n"
    "2,1,12,20,30,91,\r\n",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "tracks.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("writer", WRITTEN)
def test_files_of_all_writers_read_to_the_same_boxes(writer: str, tmp_path: Path) -> None:
    table = read_tracks(write(tmp_path, WRITTEN[writer]))
    np.testing.assert_array_equal(table.frames, FRAMES)
    np.testing.assert_array_equal(table.tracks, TRACKS)
    assert table.boxes.tolist() == BOXES


def test_detections_without_tracks_may_share_a_frame(tmp_path: Path) -> None:
    table = read_tracks(write(tmp_path, "1,-1,1,1,9,9,.9,-1,-1,-1\n1,-1,20,1,9,9,.9,-1,-1,-1\n"))
    assert table.tracks.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("0,1,1,1,9,9", "line 2: '0,1,1,1,9,9': the frame must be a whole number from 1, got 0"),
        ("1.5,1,1,1,9,9", "line 2.*the frame must be a whole number from 1, got 1.5"),
        ("1,2.5,1,1,9,9", "line 2.*the id must be a whole number from 0, or -1 for no track, got 2.5"),
        ("1,-2,1,1,9,9", "line 2.*the id must be .* got -2"),
        ("1,2,1,1,0,9", "line 2.*width and height must be above 0, got 0 and 9"),
        ("1,2,nan,1,9,9", "line 2.*has a value that is not a number"),
        ("1,2,1,1,9,inf", "line 2.*has a value that is not a number"),
        ("1,two,1,1,9,9", "line 2.*has a value that is not a number"),
        ("1,2,,1,9,9", "line 2.*has a value that is not a number"),
        ("1,2,1,1,9", "line 2.*must have 6 columns, as the first line, got 5"),
        ("1,1,1,1,9,9", "1 times a track has two boxes in one frame:\n  track 1 in frame 1: lines 1 and 2"),
    ],
)
def test_fault_is_named_with_its_line(line: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tracks\.txt: (.|\n)*" + fault):
        read_tracks(write(tmp_path, f"1,1,1,1,9,9\n{line}\n"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("person 3 0.0 0 0.0 10.0 20.0 40.0 110.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.9\n", "KITTI's format, as DeepStream"),
        ("0 3 Pedestrian 0 0 -10 10 20 40 110 -10 -10 -10 -1000 -1000 -1000 -10\n", "KITTI's format"),
        ("0 0.5 0.5 0.1 0.4 3\n", "YOLO's format"),
        ("", "must have at least one line frame,id,left"),
        ("frame,id,left,top,width,height\n1,1,1,1,9,9\n", "line 1: 'frame,id,.*: has a value that is not a number"),
        ("1,1,1,1,9,9,1,0,.9\n1,2,1,1,9,9,1,2,.9\n", "classes count from 0.*--person-class.*got 0, 2"),
        ("1,1,1,1,9,9,1,3,.9\n", "must have boxes of people, class 1 .*got classes 3"),
    ],
)
def test_other_formats_are_refused_by_name(text: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=fault):
        read_tracks(write(tmp_path, text))


def test_person_class_chooses_the_boxes(tmp_path: Path) -> None:
    path = write(tmp_path, "1,1,1,1,9,9,1,0,.9\n1,2,1,1,9,9,1,2,.9\n")
    assert read_tracks(path, person_class=0).tracks.tolist() == [1]
    with pytest.raises(InputError, match="has no classes, so that a person class must not be set, got 0"):
        read_tracks(write(tmp_path, "1,1,1,1,9,9,.9\n"), person_class=0)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tracks.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot be read as a track file: must be text in UTF-8"):
        read_tracks(path)
    with pytest.raises(InputError, match="cannot be read as a track file: No such file"):
        read_tracks(tmp_path / "nowhere.txt")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from(["1", "0", "-1", "2.5", "1e400", "nan", "x", "", "99999999999999999999"]), max_size=11
        ),
        max_size=4,
    )
)
def test_any_text_is_read_or_refused_with_one_message(rows: list[list[str]]) -> None:
    with TemporaryDirectory() as folder:
        try:
            table = read_tracks(write(Path(folder), "\n".join(",".join(row) for row in rows)))
        except InputError:
            return
        assert (table.frames >= 1).all() and np.isfinite(table.boxes).all() and (table.boxes[:, 2:] > 0).all()
