"""Read your own images from a CSV or Parquet table with the columns image, pid, camid, time_s and split."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.manifest import JUNK, SPLITS, Manifest
from qaconv.errors import InputError, name_first
from qaconv.times import SECONDS, not_seconds

COLUMNS = ("image", "pid", "camid", "time_s", "split")
NAME = "sightings.csv"  # of a table in a folder that DVC watches with its images
ORDER = "order"  # may be left out
NUMBERS = ("pid", "camid", "time_s", ORDER)


def read(root: Path, domain: str) -> Manifest:
    """Read the table.

    Args:
        root: the .csv or .parquet file, or a folder with sightings.csv. `image` is a path below its folder; `pid` a
            whole number, -1 for junk and 0 for a distractor; `camid` a whole number from 0; `time_s` the seconds on that camera's clock, or empty;
            `split` one of train, query, gallery. A column `order`, a number that grows as a camera records,
            reveals times that run backwards and corrects clocks that were reset. Other columns are ignored.
        domain: name for the camera network.
    """
    if root.is_dir():
        root = root / NAME
    text = _read_text(root)
    folder = root.parent
    number = {name: pd.to_numeric(text[name], errors="coerce") for name in text.columns.intersection(list(NUMBERS))}
    for refused, fault in (
        (text["image"] == "", "have no image"),
        (text["camid"] == "", "have no camid (cameras count from 0)"),
        (~_whole_from(0, number["camid"]), "have a camid that is not a whole number from 0"),
        (~_whole_from(JUNK, number["pid"]), f"have a pid that is not a whole number from {JUNK}"),
        (
            (text["time_s"] != "") & (number["time_s"].isna() | not_seconds(number["time_s"])),
            f"have a time_s that is neither empty nor {SECONDS}",
        ),
        (~text["split"].isin(SPLITS), f"have a split that is none of {', '.join(SPLITS)}"),
        (~np.isfinite(number.get(ORDER, number["camid"])), "have an order that is not a number"),
        (_leads_out_of(folder, text["image"]), f"have an image that leads out of the folder {folder}"),
    ):
        if refused.any():
            rows = [f"row {row + 1}: {','.join(text.loc[row])}" for row in text.index[refused]]
            raise InputError(f"{root}: {len(rows)} rows {fault}:{name_first(rows)}")
    clocks: list[dict[str, Any]] = []
    if ORDER in number:
        number["time_s"], clocks = correct_resets(number["camid"], number[ORDER], number["time_s"])
    return Manifest(text.assign(**number, domain=domain), folder, clocks=clocks)


def _read_text(path: Path) -> pd.DataFrame:
    """Read every value as text, "" if missing, so that messages show what is in the file."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: a table must be a .csv or a .parquet file")
    try:
        frame = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # errors of pandas and Arrow about the content are ValueErrors
        raise InputError(f"{path}: cannot be read as a table: {error}") from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: must have the columns {', '.join(missing)}, got {', '.join(map(str, frame.columns))}"
        )
    frame = frame[frame.columns.intersection([*COLUMNS, ORDER])].astype(object)
    return frame.where(frame.notna(), "").astype(str).reset_index(drop=True)


def _whole_from(least: int, number: "pd.Series[float]") -> "pd.Series[bool]":
    return (number >= least) & (number % 1 == 0)


def _leads_out_of(folder: Path, images: "pd.Series[str]") -> "pd.Series[bool]":
    """Return whether each path leads outside the folder, after following symbolic links, or is none (has a NUL)."""
    within = folder.resolve()
    return images.map(lambda image: "\0" in image or not (folder / image).resolve().is_relative_to(within)).astype(bool)
