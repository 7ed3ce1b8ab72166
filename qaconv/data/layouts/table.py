"""Read your own images from a CSV or Parquet table with the columns image, pid, camid, time_s and split."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.manifest import JUNK, SPLITS, Manifest
from qaconv.errors import InputError, name_first
from qaconv.runtime.limits import LARGEST_CAMID, LARGEST_PID
from qaconv.times import SECONDS, not_seconds

COLUMNS = ("image", "pid", "camid", "time_s", "split")
NAME = "sightings.csv"  # of a table in a folder that DVC watches with its images
ORDER = "order"  # may be left out
KNOWN = (*COLUMNS, ORDER)
NUMBERS = ("pid", "camid", "time_s", ORDER)
CAMID = f"a whole number in 0..{LARGEST_CAMID:,}"
PID = f"a whole number in {JUNK}..{LARGEST_PID:,}"


def read(root: Path, domain: str) -> Manifest:
    """Read the table, and correct clocks that were reset.

    Args:
        root: the .csv or .parquet file, or a folder with sightings.csv, as `read_rows` reads it.
        domain: name for the camera network.
    """
    path = root / NAME if root.is_dir() else root
    rows = read_rows(path)
    backslashes = rows["image"][rows["image"].str.contains("\\", regex=False)]
    if missing := [image for image in backslashes if not (path.parent / image).exists()]:
        raise InputError(f"{path}: {len(missing)} images must have / between folders, got \\:{name_first(missing)}")
    time_s, clocks = correct_resets(rows["camid"], rows[ORDER], rows["time_s"])
    return Manifest(rows.assign(time_s=time_s, domain=domain), path.parent, clocks=clocks)


def read_rows(path: Path) -> pd.DataFrame:
    """Read the rows of a table with the times that the cameras' clocks showed.

    Args:
        path: the .csv or .parquet file. `image` is a path below its folder; `pid` a whole number, -1 for junk and 0
            for a distractor; `camid` a whole number from 0; `time_s` the seconds on that camera's clock, or empty;
            `split` one of train, query, gallery. A column `order`, a number that grows as a camera records, or empty,
            reveals times that run backwards and corrects clocks that were reset. Other columns are ignored.

    Returns:
        The five columns and `order`, NaN where it is empty or the table has none.

    Raises:
        InputError: the table cannot be read, has no rows, or a row has an impossible value.
    """
    text = _read_text(path)
    if text.empty:
        raise InputError(f"{path}: must have at least one row, got none")
    folder = path.parent
    number = {name: pd.to_numeric(text[name], errors="coerce") for name in NUMBERS}
    for refused, fault in (
        (text["image"] == "", "have no image"),
        (text["camid"] == "", "have no camid (cameras count from 0)"),
        (~_whole(number["camid"], 0, LARGEST_CAMID), f"have a camid that is not {CAMID}"),
        (~_whole(number["pid"], JUNK, LARGEST_PID), f"have a pid that is not {PID}"),
        (
            (text["time_s"] != "") & (number["time_s"].isna() | not_seconds(number["time_s"])),
            f"have a time_s that is neither empty nor {SECONDS}",
        ),
        (~text["split"].isin(SPLITS), f"have a split that is none of {', '.join(SPLITS)}"),
        ((text[ORDER] != "") & ~np.isfinite(number[ORDER]), "have an order that is neither a number nor empty"),
        (_leads_out_of(folder, text["image"]), f"have an image that leads out of the folder {folder}"),
    ):
        if refused.any():
            rows = [f"row {row + 1}: {','.join(text.loc[row])}" for row in text.index[refused]]
            raise InputError(f"{path}: {len(rows)} rows {fault}:{name_first(rows)}")
    return text.assign(**number).astype({"pid": "int64", "camid": "int64", "time_s": "float64", ORDER: "float64"})


def _read_text(path: Path) -> pd.DataFrame:
    """Read every value as text, "" if missing, so that messages show what is in the file."""
    if not path.exists():
        raise InputError(f"{path}: cannot be read as a table: does not exist")
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: a table must be a .csv or a .parquet file")
    try:
        names = _read_header(path)
        _check_names(path, names)
        frame = _read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a table: must be UTF-8: {error}") from error
    except (OSError, ValueError) as error:  # errors of pandas and Arrow about the content are ValueErrors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read as a table: {reason}") from error
    frame = frame.reindex(columns=[*KNOWN]).astype(object)
    return frame.where(frame.notna(), "").astype(str).reset_index(drop=True)


def _read_header(path: Path) -> list[str]:
    """Read the names of the columns as they stand in the file; pandas would number those of one name."""
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    header = pd.read_csv(path, dtype=str, header=None, nrows=1, keep_default_na=False)
    return [str(name) for name in header.loc[0]]


def _check_names(path: Path, names: list[str]) -> None:
    """Check that each column that is read stands once, in its own spelling; one with another would be ignored."""
    missing = [name for name in COLUMNS if name not in names]
    misspelt = [name for name in names if name not in KNOWN and name.strip().lower() in KNOWN]
    twice = [name for name in KNOWN if names.count(name) > 1]
    if len(names) == 1 and path.suffix == ".csv":
        raise InputError(f"{path}: must have the columns {', '.join(COLUMNS)} with commas between, got {names[0]!r}")
    if misspelt:
        shown = ", ".join(f"{name.strip().lower()!r}, got {name!r}" for name in misspelt)
        raise InputError(f"{path}: a column must be named {shown}")
    if missing:
        raise InputError(f"{path}: must have the columns {', '.join(missing)}, got {', '.join(names)}")
    if twice:
        raise InputError(f"{path}: each column must stand once, got {', '.join(twice)} twice or more")


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, dtype=str, index_col=False)
        except pd.errors.ParserWarning as warning:
            raise ValueError("rows have more values than the header has names") from warning


def _whole(number: "pd.Series[float]", least: int, largest: int) -> "pd.Series[bool]":
    return number.between(least, largest) & (number % 1 == 0)


def _leads_out_of(folder: Path, images: "pd.Series[str]") -> "pd.Series[bool]":
    """Return whether each path leads outside the folder, after following symbolic links, or is none (has a NUL)."""
    within = folder.resolve()
    return images.map(lambda image: "\0" in image or not (folder / image).resolve().is_relative_to(within)).astype(bool)
