"""Lay feature maps out as the matchers read them.

N images, C channels, H x W map size, S = H*W locations.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.threads import share_out


def as_locations(maps: NDArray[np.floating], threads: int | None = None) -> NDArray[np.float32]:
    """Return maps [N, C, H, W] as contiguous float32 [N, S, C]; a view where they lie so in memory.

    Args:
        maps: feature maps of any float type.
        threads: number of threads that copy. Default: `default_threads()`.
    """
    images, channels, height, width = maps.shape
    channels_last = maps.reshape(images, channels, height * width).transpose(0, 2, 1)
    if channels_last.dtype == np.float32 and channels_last.flags.c_contiguous:
        return channels_last
    return _copy(channels_last, threads)


def first_not_finite(locations: NDArray[np.float32]) -> int | None:
    """Return the index of the first map [N, S, C] with a NaN or an infinity, None if all are finite."""
    ones = np.ones(locations[0].size if len(locations) else 0, dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = locations.reshape(len(locations), ones.size) @ ones  # a product sums twice as fast as isfinite() looks
    suspects = np.flatnonzero(~np.isfinite(sums)).tolist()  # or sums of large values
    return next((image for image in suspects if not np.isfinite(locations[image]).all()), None)


def widen(values: NDArray[Any], threads: int | None = None) -> NDArray[np.float32]:
    """Return values as float32; float32 itself is not copied."""
    return values if values.dtype == np.float32 else _copy(values, threads)


def _copy(values: NDArray[Any], threads: int | None) -> NDArray[np.float32]:
    """Copy values to a contiguous float32 array, in threads."""
    floats = np.empty(values.shape, dtype=np.float32)

    def copy(first: int, last: int) -> None:
        floats[first:last] = values[first:last]

    share_out(copy, len(values), threads)
    return floats
