"""Read the boxes of a track file in MOTChallenge's text format, as trackers write it.

A line is `frame,id,left,top,width,height`, and often confidence and further columns, with commas or spaces between.
Frames count from 1, boxes are in pixels, and id -1 is a box without a track.
"""

from array import array
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError, name_first

UNTRACKED = -1
PEDESTRIAN = 1  # its class in MOTChallenge's gt.txt, where classes count from 1
FLAG, CLASS = 6, 7  # columns from 0 of a line of nine: whether it counts, and its class, as in gt.txt
LARGEST = 2**53  # below it float64 has every whole number
FORM = "frame,id,left,top,width,height,... (MOTChallenge's, frames from 1, boxes in pixels)"


@dataclass(frozen=True)
class TrackTable:
    """Boxes of people, sorted by frame and line.

    Attributes:
        path: the file.
        lines: line of each box in the file, [N].
        frames: frame of each box, from 1, [N].
        tracks: track of each box, -1 where it has none, [N].
        boxes: left, top, width and height in pixels, [N, 4].
    """

    path: Path
    lines: NDArray[np.int64]
    frames: NDArray[np.int64]
    tracks: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def rows(self, frame: int) -> slice:
        """Return the rows of a frame."""
        start, end = np.searchsorted(self.frames, (frame, frame + 1))
        return slice(start, end)

    def refuse(self, wrong: NDArray[np.bool_], fault: str) -> None:
        """Raise an error that names the lines of the wrong boxes, if there are any.

        Raises:
            InputError: `wrong` has a true value.
        """
        if wrong.any():
            rows = zip(self.lines[wrong], self.frames[wrong], self.boxes[wrong].tolist(), strict=True)
            shown = [f"line {line}: frame {frame}, box {box}" for line, frame, box in rows]
            raise InputError(f"{self.path}: {len(shown)} boxes {fault}:{name_first(shown)}")


def read_tracks(path: Path, person_class: int | None = None) -> TrackTable:
    """Read a track file.

    A file of nine columns has a flag and a class in columns 7 and 8, as gt.txt does: lines of flag 0 are left out,
    unless all have it, as some writers round the confidence to 0 there. A file of ten or more has a class in column 8
    if that is not -1 and the columns after it are. Confidences are not used.

    Args:
        path: the file.
        person_class: class of the boxes to read. Default: 1, MOTChallenge's pedestrians, if the file has classes.

    Raises:
        InputError: the file cannot be read or is in another format, a line has an impossible value, a track has two
            boxes in one frame, or no box shows a person.
    """
    numbers, lines = _read_numbers(path)
    kept = _are_people(path, numbers, person_class)
    numbers, lines = numbers[kept], lines[kept]
    order = np.lexsort((lines, numbers[:, 0]))
    numbers, lines = numbers[order], lines[order]
    table = TrackTable(path, lines, numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.int64), numbers[:, 2:6])
    _refuse_two_boxes(table)
    return table


def _read_numbers(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the numbers of every line that is not empty, and its place in the file, from 1."""
    columns = 0
    values = array("d")  # a list of numbers would take several times the memory
    lines = array("q")
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                fields = _split(text)
                if not fields:
                    continue
                if columns == 0:
                    _refuse_other_formats(path, fields)
                    columns = len(fields)
                numbers = _numbers(fields)
                if fault := _find_fault(numbers, columns):
                    faults.append(f"line {line}: {text.strip()!r}: {fault}")
                    continue
                values.extend(numbers)
                lines.append(line)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "must be text in UTF-8"
        raise InputError(f"{path}: cannot be read as a track file: {reason}") from error
    if columns == 0:
        raise InputError(f"{path}: must have at least one line {FORM}, got none")
    if faults:
        raise InputError(f"{path}: {len(faults)} lines do not have the form {FORM}:{name_first(faults)}")
    return np.array(values).reshape(-1, columns), np.array(lines)


def _split(text: str) -> list[str]:
    return text.strip().removesuffix(",").split(",") if "," in text else text.split()


def _numbers(fields: list[str]) -> list[float]:
    """Return the fields as numbers, NaN for a text."""
    numbers = []
    for field in fields:
        try:
            numbers.append(float(field))
        except ValueError:
            numbers.append(np.nan)
    return numbers


def _find_fault(numbers: list[float], columns: int) -> str | None:
    if len(numbers) != columns or columns < 6:
        return f"must have {max(columns, 6)} columns, as the first line, got {len(numbers)}"
    if not all(map(isfinite, numbers)):
        return "has a value that is not a number"
    frame, track, _, _, width, height = numbers[:6]
    if not (frame.is_integer() and 1 <= frame < LARGEST):
        return f"the frame must be a whole number from 1, got {frame:g}"
    if not (track.is_integer() and UNTRACKED <= track < LARGEST):
        return f"the id must be a whole number from 0, or -1 for no track, got {track:g}"
    if min(width, height) <= 0:
        return f"width and height must be above 0, got {width:g} and {height:g}"
    return None


def _refuse_other_formats(path: Path, fields: list[str]) -> None:
    """Refuse KITTI's labels, where a word is in the first three columns, and YOLO's, where boxes are shares."""
    numbers = _numbers(fields)
    if len(fields) >= 15 and np.isnan(numbers[:3]).any():
        raise InputError(
            f"{path}: is in KITTI's format, as DeepStream writes to kitti-track-output-dir; must be lines {FORM}: "
            "write frame number + 1, object id, left, top, right - left, bottom - top"
        )
    if 5 <= len(fields) <= 7 and numbers[0] >= 0 and all(0 < number < 1 for number in numbers[1:5]):
        raise InputError(f"{path}: is in YOLO's format, with boxes as shares of the picture; must be lines {FORM}")


def _are_people(path: Path, numbers: NDArray[np.float64], person_class: int | None) -> NDArray[np.bool_]:
    kept = np.ones(len(numbers), dtype=bool)
    columns = numbers.shape[1]
    if columns == 9 and numbers[:, FLAG].any():
        kept = numbers[:, FLAG] != 0
    has_class = columns == 9 or (
        columns > 9 and (numbers[:, CLASS + 1 :] == -1).all() and (numbers[:, CLASS] % 1 == 0).all()
    )
    classes = set(numbers[:, CLASS].astype(int).tolist()) - {-1} if has_class else set()
    if not classes:
        if person_class is not None:
            raise InputError(f"{path}: has no classes, so that a person class must not be set, got {person_class}")
        return kept
    shown = ", ".join(map(str, sorted(classes)))
    if person_class is None and 0 in classes:
        raise InputError(f"{path}: its classes count from 0, so set the class of people (--person-class), got {shown}")
    wanted = PEDESTRIAN if person_class is None else person_class
    kept &= numbers[:, CLASS] == wanted
    if not kept.any():
        raise InputError(f"{path}: must have boxes of people, class {wanted} (--person-class), got classes {shown}")
    return kept


def _refuse_two_boxes(table: TrackTable) -> None:
    tracked = np.flatnonzero(table.tracks != UNTRACKED)
    order = tracked[np.lexsort((table.lines[tracked], table.tracks[tracked], table.frames[tracked]))]
    first, second = order[:-1], order[1:]
    is_twice = (table.frames[first] == table.frames[second]) & (table.tracks[first] == table.tracks[second])
    if is_twice.any():
        rows = zip(first[is_twice], second[is_twice], strict=True)
        shown = [
            f"track {table.tracks[one]} in frame {table.frames[one]}: lines {table.lines[one]} and {table.lines[two]}"
            for one, two in rows
        ]
        raise InputError(f"{table.path}: {len(shown)} times a track has two boxes in one frame:{name_first(shown)}")
