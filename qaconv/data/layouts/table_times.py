"""Read the times of a table: seconds on the cameras' clocks, dates, or Unix milliseconds, of which a table has one.

N rows of the table.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from qaconv.data.layouts.table_file import parse_numbers
from qaconv.times import DATE, MILLISECONDS, SECONDS, UNIX_EPOCH, lacks_zone, not_milliseconds, not_seconds, parse_date

FORMS = ("seconds in time_s", "a date in time_s", "milliseconds in time_ms")


class Times(NamedTuple):
    """Times of a table.

    Attributes:
        seconds: on the camera's clock, or since UNIX_EPOCH; NaN if unknown, [N].
        origin: UNIX_EPOCH where they are dates, else "".
        faults: which rows are refused, [N], and why, in the order of the checks.
    """

    seconds: "pd.Series[float]"
    origin: str
    faults: list[tuple["pd.Series[bool]", str]]


def read_times(time_s: "pd.Series[str]", time_ms: "pd.Series[str]") -> Times:
    """Read the columns of times, [N]; "" where a time is unknown."""
    number = parse_numbers(time_s)
    milliseconds = parse_numbers(time_ms)
    is_text = (time_s != "") & number.isna()
    date = _map(parse_date, time_s[is_text], "float64").reindex(time_s.index)
    is_unzoned = _map(lacks_zone, time_s[is_text & date.isna()], "bool").reindex(time_s.index, fill_value=False)
    has_ms = time_ms != ""
    form = pd.Series(np.select([has_ms, is_text, time_s != ""], [2, 1, 0], -1), time_s.index)
    first = int((form >= 0).to_numpy().argmax())
    faults = [
        (is_unzoned, f"have a time_s without a zone, must be {DATE}"),
        (
            (is_text & date.isna()) | not_seconds(number),
            f"have a time_s that is neither empty nor {SECONDS} nor {DATE}",
        ),
        (
            has_ms & (milliseconds.isna() | not_milliseconds(milliseconds)),
            f"have a time_ms that is neither empty nor {MILLISECONDS}",
        ),
        (has_ms & (time_s != ""), "fill both time_s and time_ms, must fill one of them at most"),
        (
            (form >= 0) & (form != form.iloc[first]),
            f"have another kind of time than row {first + 1}, must have {FORMS[form.iloc[first]]} as there, or none",
        ),
    ]
    seconds = number.fillna(date).fillna(milliseconds / 1000)
    return Times(seconds, UNIX_EPOCH if (form > 0).any() else "", faults)


def _map(rule: Callable[[str], float | None], texts: "pd.Series[str]", kind: str) -> pd.Series:
    return pd.Series([rule(text) for text in texts.to_numpy(object)], texts.index, dtype=kind)
