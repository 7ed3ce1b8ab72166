"""Read times of sightings, and tell those that cannot be: one rule for every place where they come in."""

import re
from datetime import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError

LARGEST_S = 1e11  # 3,000 years: seconds since any calendar's start are below, milliseconds since 1970 above
SECONDS = (
    f"seconds from -{LARGEST_S:.0e} to {LARGEST_S:.0e} (since 1970 about 1.8e9 have passed; 1.8e12 are milliseconds)"
)

MILLISECONDS = "Unix milliseconds from 1e+11 to 1e+14 (1.8e9 are seconds)"  # from 1973 on
DATE = "a date with time and zone in ISO 8601, such as 2026-11-27T08:15:30.250+01:00"
UNIX_EPOCH = "1970-01-01T00:00:00+00:00"  # the time origin of all times that are given as dates
_DAY_AND_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
_ZONED = re.compile(_DAY_AND_TIME + r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)")
_UNZONED = re.compile(_DAY_AND_TIME)


def parse_date(text: str) -> float | None:
    """Convert a date with time and zone in ISO 8601 to seconds since UNIX_EPOCH; None if it is none or out of range."""
    if not _ZONED.fullmatch(text):
        return None
    try:
        seconds = datetime.fromisoformat(text).timestamp()
    except ValueError:  # such as the 31st of June
        return None
    return seconds if abs(seconds) <= LARGEST_S else None


def lacks_zone(text: str) -> bool:
    """Return whether a text is a date with a time and no zone."""
    return _UNZONED.fullmatch(text) is not None


def not_milliseconds(times: ArrayLike) -> NDArray[np.bool_]:
    """Mask of the times that cannot be Unix milliseconds; NaN is an unknown time."""
    values = np.asarray(times, dtype=np.float64)
    mask: NDArray[np.bool_] = (values < LARGEST_S) | (values > 1000 * LARGEST_S)
    return mask


def not_seconds(times: ArrayLike) -> NDArray[np.bool_]:
    """Mask of the times that cannot be seconds, infinite ones among them; NaN is an unknown time."""
    mask: NDArray[np.bool_] = np.abs(np.asarray(times, dtype=np.float64)) > LARGEST_S
    return mask


def check_seconds(source: str, times: ArrayLike) -> None:
    """Check that times can be seconds.

    Args:
        source: file and column, or name of the argument, for the message.
        times: of sightings, NaN where unknown, [N].

    Raises:
        InputError: a time is too far from 0 to be seconds.
    """
    values = np.asarray(times, dtype=np.float64)
    wrong = values[not_seconds(values)]
    if len(wrong):
        raise InputError(f"{source} must be {SECONDS}, got {len(wrong)} that are not, such as {wrong[0]:.15g}")
