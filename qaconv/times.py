"""Tell times that cannot be seconds: one rule for every place where times of sightings come in."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError

LARGEST_S = 1e11  # 3,000 years: seconds since any calendar's start are below, milliseconds since 1970 above
SECONDS = (
    f"seconds from -{LARGEST_S:.0e} to {LARGEST_S:.0e} (since 1970 about 1.8e9 have passed; 1.8e12 are milliseconds)"
)


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
