"""Read the columns of a CSV or Parquet table as text, and check their names."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from qaconv.errors import InputError

# Names that other programs use. A table without the column would be read as one without people, cameras or times.
OTHER_NAMES = {
    "person": "pid",
    "person_id": "pid",
    "identity": "pid",
    "cam": "camid",
    "cam_id": "camid",
    "camera": "camid",
    "camera_id": "camid",
    "time": "time_s",
    "timestamp": "time_s",
    "datetime": "time_s",
    "date": "time_s",
}


def read_text(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read every value as text, "" if missing, so that messages show what is in the file.

    Args:
        path: the .csv or .parquet file.
        columns: names of the columns to read; the first one must be in the file.

    Returns:
        Those of the columns that the file has, in the order of `columns`.

    Raises:
        InputError: the file cannot be read, or a column is missing, misspelt or there twice.
    """
    if not path.exists():
        raise InputError(f"{path}: cannot be read as a table: does not exist")
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: a table must be a .csv or a .parquet file")
    try:
        names = _read_header(path)
        _check_names(path, names, columns)
        read = [name for name in columns if name in names]
        frame = _read_csv(path)[read] if path.suffix == ".csv" else pd.read_parquet(path, columns=read)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a table: must be UTF-8: {error}") from error
    except (OSError, ValueError) as error:  # errors of pandas and Arrow about the content are ValueErrors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read as a table: {reason}") from error
    return frame.reset_index(drop=True).apply(_as_text)


def parse_numbers(text: "pd.Series[str]") -> "pd.Series[float]":
    """Convert the texts of a column to numbers, NaN where they are none."""
    return pd.to_numeric(text, errors="coerce").astype("float64")


def _read_header(path: Path) -> list[str]:
    """Read the names of the columns as they stand in the file; pandas would number those of one name."""
    if path.suffix == ".parquet":
        return list(pq.read_schema(path).names)
    header = pd.read_csv(path, dtype=str, header=None, nrows=1, keep_default_na=False)
    return [str(name) for name in header.loc[0]]


def _check_names(path: Path, names: list[str], columns: Sequence[str]) -> None:
    """Check that each column that is read stands once, in its own spelling; one with another would be ignored."""
    twice = [name for name in columns if names.count(name) > 1]
    misspelt = {name: name.strip().lower() for name in names if name not in columns and name.strip().lower() in columns}
    timed = "time_s" in names or "time_ms" in names
    for name in names:
        column = OTHER_NAMES.get(name.strip().lower(), name)
        if column != name and column not in names and not (column == "time_s" and timed):
            misspelt[name] = column
    if len(names) == 1 and path.suffix == ".csv" and columns[0] not in names:
        raise InputError(f"{path}: must have the columns {', '.join(columns)} with commas between, got {names[0]!r}")
    if misspelt:
        shown = ", ".join(f"{column!r}, got {name!r}" for name, column in misspelt.items())
        raise InputError(f"{path}: a column must be named {shown}")
    if columns[0] not in names:
        raise InputError(f"{path}: must have the column {columns[0]}, got {', '.join(names)}")
    if twice:
        raise InputError(f"{path}: each column must stand once, got {', '.join(twice)} twice or more")


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, dtype=str, index_col=False)
        except pd.errors.ParserWarning as warning:
            raise ValueError("rows have more values than the header has names") from warning


def _as_text(values: pd.Series) -> "pd.Series[str]":
    if isinstance(values.dtype, pd.StringDtype):
        return values.fillna("")
    values = values.astype(object)
    return values.where(values.notna(), "").astype(str)
