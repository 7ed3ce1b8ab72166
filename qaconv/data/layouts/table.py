"""Read your own images from a CSV or Parquet table: with or without people, cameras by number or name, times or dates.

N rows of the table.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.layouts.table_file import parse_numbers, read_text
from qaconv.data.layouts.table_times import read_times
from qaconv.data.manifest import JUNK, SPLITS, UNLABELLED, Manifest
from qaconv.errors import InputError, name_first
from qaconv.runtime.limits import LARGEST_CAMID, LARGEST_PID, LONGEST_NAME, is_name

NAME = "sightings.csv"  # of a table in a folder that DVC watches with its images
ORDER = "order"
COLUMNS = ("image", "pid", "camid", "time_s", "time_ms", "split", ORDER, "track")  # all but the first may be left out
CAMID = f"a whole number in 0..{LARGEST_CAMID:,}"
PID = f"a whole number in {JUNK}..{LARGEST_PID:,}"
A_NAME = f"1 to {LONGEST_NAME} printable characters without outer spaces"
QUERY_SHARE = 0.1  # of sightings without labels: enough to show and to time searches
MOST_QUERIES = 500  # more would cost time and show nothing new

Refusals = Iterator[tuple["pd.Series[bool]", str]]


@dataclass(frozen=True)
class Table:
    """The rows of a table, as they were sent.

    Attributes:
        rows: image, pid (UNLABELLED where nobody has said who it is), camera (its number or name, as text), camid,
            time_s (as the cameras' clocks showed it, NaN if unknown), split ("" if not given), order (NaN if not
            given) and track ("" if there is none), [N].
        cameras: name of each camera by camid; empty where cameras are numbers.
        time_origin: UNIX_EPOCH where times are dates; empty where they are seconds on the cameras' clocks.
    """

    rows: pd.DataFrame
    cameras: dict[int, str]
    time_origin: str


def read(root: Path, domain: str) -> Manifest:
    """Read the table, correct clocks that were reset, and draw queries from sightings without labels.

    Args:
        root: the .csv or .parquet file, or a folder with sightings.csv, as `read_rows` reads it.
        domain: name for the camera network.
    """
    path = root / NAME if root.is_dir() else root
    table = read_rows(path)
    rows = table.rows
    backslashes = rows["image"][rows["image"].str.contains("\\", regex=False)]
    if missing := [image for image in backslashes if not (path.parent / image).exists()]:
        raise InputError(f"{path}: {len(missing)} images must have / between folders, got \\:{name_first(missing)}")
    time_s, clocks = correct_resets(rows["camid"], rows[ORDER], rows["time_s"])
    frame = rows.assign(time_s=time_s, split=split_unlabelled(rows), domain=domain)
    return Manifest(frame, path.parent, clocks=clocks, cameras=table.cameras, time_origin=table.time_origin)


def read_rows(path: Path) -> Table:
    """Read and check the rows of a table.

    Args:
        path: the .csv or .parquet file. Every column but `image` may be left out, and other columns are ignored.
            `image` is a path below the file's folder. `pid` is a whole number, -1 for junk and 0 for a distractor, and
            `split` one of train, query, gallery; both are empty where nobody has said who it is. `camid` is a whole
            number from 0 or a name; without it there is one camera. `time_s` is the seconds on that camera's clock, or
            a date, or empty; `time_ms` is Unix milliseconds in place of it. A column `order`, a number that grows as a
            camera records, or empty, reveals times that run backwards and corrects clocks that were reset. `track`
            names images of one person on one camera, or is empty.

    Raises:
        InputError: the table cannot be read, has no rows, or a row has an impossible value.
    """
    text = read_text(path, COLUMNS)
    if text.empty:
        raise InputError(f"{path}: has no sightings, must have at least one row below its header")
    shown = list(text.columns)
    text = text.reindex(columns=[*COLUMNS], fill_value="").astype(dict.fromkeys(COLUMNS, str))
    if "camid" not in shown:
        text["camid"] = "0"
    camera, names = _read_cameras(text["camid"])
    times = read_times(text["time_s"], text["time_ms"])
    for refused, fault in (
        *_find_image_faults(path.parent, text["image"]),
        *_find_label_faults(text["pid"], text["split"]),
        *_find_camera_faults(text["camid"], camera, names),
        *times.faults,
        *_find_recording_faults(text[ORDER], text["track"]),
    ):
        if refused.any():
            values = text.loc[refused, shown].itertuples(name=None)
            faulty = [f"row {row + 1}: {','.join(texts)}" for row, *texts in values]
            raise InputError(f"{path}: {len(faulty)} rows {fault}:{name_first(faulty)}")
    if len(names) > LARGEST_CAMID + 1:
        raise InputError(f"{path}: must name at most {LARGEST_CAMID + 1:,} cameras, got {len(names):,}")
    rows = pd.DataFrame(
        {
            "image": text["image"],
            "pid": parse_numbers(text["pid"]).fillna(UNLABELLED).astype("int64"),
            "camera": text["camid"] if names else camera.astype("int64").astype(str),
            "camid": camera.astype("int64"),
            "time_s": times.seconds,
            "split": text["split"],
            ORDER: parse_numbers(text[ORDER]),
            "track": text["track"],
        }
    )
    return Table(rows, dict(enumerate(names)), times.origin)


def split_unlabelled(rows: pd.DataFrame) -> "pd.Series[str]":
    """Put sightings without a split into the gallery, and a sample of them into the queries.

    The sample has the smallest sha256 of their names, or of their tracks' names, whose sightings stay together. So it
    needs no seed, and hardly changes as sightings are added.
    """
    is_open = rows["split"] == ""
    if not is_open.any():
        return rows["split"]
    part = rows[is_open]
    name = part["track"].where(part["track"] != "", part["image"])
    counts = name.value_counts(sort=False)
    digests = [sha256(unit.encode()).digest() for unit in counts.index]
    counts = counts.iloc[sorted(range(len(digests)), key=digests.__getitem__)]
    wanted = min(max(int(QUERY_SHARE * len(part)), 1), MOST_QUERIES)
    is_drawn = counts.cumsum() <= wanted
    is_drawn.iloc[0] = True
    drawn = name.isin(counts.index[is_drawn]).map({True: "query", False: "gallery"})
    return rows["split"].where(~is_open, drawn.reindex(rows.index))


def _read_cameras(camid: "pd.Series[str]") -> tuple["pd.Series[float]", list[str]]:
    """Return each row's camera number, and the sorted names; none where all that are given are numbers."""
    number = parse_numbers(camid)
    if number[camid != ""].notna().all():
        return number, []
    names = sorted(set(camid.unique()) - {""})
    return camid.map({name: float(number) for number, name in enumerate(names)}), names


def _find_image_faults(folder: Path, image: "pd.Series[str]") -> Refusals:
    yield image == "", "have no image"
    yield _leads_out_of(folder, image), f"have an image that leads out of the folder {folder}"


def _find_label_faults(pid: "pd.Series[str]", split: "pd.Series[str]") -> Refusals:
    yield (pid != "") & ~_whole(parse_numbers(pid), JUNK, LARGEST_PID), f"have a pid that is neither empty nor {PID}"
    yield (split != "") & ~split.isin(SPLITS), f"have a split that is none of {', '.join(SPLITS)}"
    yield (pid != "") & (split == ""), f"have a pid and no split, which must be one of {', '.join(SPLITS)}"
    yield (pid == "") & (split == "train"), f"are for training and have no pid, which must be {PID}"


def _find_camera_faults(camid: "pd.Series[str]", number: "pd.Series[float]", names: list[str]) -> Refusals:
    yield camid == "", "have no camid (cameras count from 0, or have names)"
    if names:
        yield camid.isin([name for name in names if not is_name(name)]), f"have a camid that is not {A_NAME}"
    else:
        yield ~_whole(number, 0, LARGEST_CAMID), f"have a camid that is not {CAMID}"


def _find_recording_faults(order: "pd.Series[str]", track: "pd.Series[str]") -> Refusals:
    yield (order != "") & ~np.isfinite(parse_numbers(order)), "have an order that is neither a number nor empty"
    tracks = [name for name in track.unique() if name and not is_name(name)]
    yield track.isin(tracks), f"have a track that is neither empty nor {A_NAME}"


def _whole(number: "pd.Series[float]", least: int, largest: int) -> "pd.Series[bool]":
    return number.between(least, largest) & (number % 1 == 0)


def _leads_out_of(folder: Path, images: "pd.Series[str]") -> "pd.Series[bool]":
    """Return whether each path leads outside the folder, after following symbolic links, or is none (has a NUL).

    Each folder that is named is resolved and listed once, and of its files only the links are resolved.
    """
    within = folder.resolve()
    is_outside: dict[str, bool] = {}
    links: dict[str, set[str]] = {}

    def leads_out(image: str) -> bool:
        if "\0" in image:
            return True
        parent, slash, name = image.rpartition("/")
        if parent + slash not in links:
            path = folder / (parent + slash)
            is_outside[parent + slash] = not path.resolve().is_relative_to(within)
            links[parent + slash] = {"", ".", "..", *_list_links(path)}
        if name in links[parent + slash]:
            return not (folder / image).resolve().is_relative_to(within)
        return is_outside[parent + slash]

    return pd.Series([leads_out(image) for image in images.to_numpy(object)], images.index, dtype=bool)


def _list_links(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_symlink()]
    except OSError:  # images that do not exist or cannot be read are refused when they are decoded
        return []
