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
