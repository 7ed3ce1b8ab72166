"""Quantise feature maps to int8 codes with one scale for each location.

N images, S locations, C channels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.locations import widen
from qaconv.runtime.threads import share_out

LEVELS = 127  # codes are -127..127, so that a code and its negative both exist
LEAST = np.finfo(np.float16).tiny  # the smallest scale: a location of unit length does not come near it
LANES = 8  # partial sums of a length: a fixed order, so that every CPU rounds it alike
BLOCK_FLOATS = 1 << 16  # quantised at a time: they stay in cache


class Codes(NamedTuple):
    """Maps as integers: the value of a location's channel is its code times the location's scale."""

    codes: NDArray[np.int8]  # [N, S, C]
    scales: NDArray[np.floating]  # float16 [N, S]; float32 where they were widened beforehand

    def take(self, images: NDArray[np.integer] | slice) -> "Codes":
        """Return those of some images."""
        return Codes(self.codes[images], self.scales[images])


Block = NDArray[np.floating] | Codes  # maps of some images: float32 or float16 [N, S, C], or codes


def quantise(locations: NDArray[np.float32], threads: int | None = None) -> Codes:
    """Quantise float32 maps [N, S, C]: each location's largest channel becomes 127, and its length is kept.

    Rounding errors along a location move its cosines with everything that is like it. A scale that keeps the length
    corrects that, and with it more than half the error of a logit. Scales have float16's 11 bits, so that 127 times a
    scale is exact and `quantise(dequantise(codes))` gives the same codes and scales.

    Args:
        locations: maps with finite values.
        threads: number of threads. Default: `default_threads()`.
    """
    images, places, channels = locations.shape
    codes = np.empty((images, places, channels), dtype=np.int8)
    scales = np.empty((images, places), dtype=np.float16)
    at_once = max(1, BLOCK_FLOATS // max(1, places * channels))

    def run(first: int, last: int) -> None:
        for start in range(first, last, at_once):
            part = slice(start, min(start + at_once, last))
            codes[part], scales[part] = _quantise(locations[part])

    share_out(run, images, threads)
    return Codes(codes, scales)


def dequantise(codes: Codes, threads: int | None = None) -> NDArray[np.float32]:
    """Return the maps that codes stand for, float32 [N, S, C]."""
    maps = widen(codes.codes, threads)
    scales = codes.scales.astype(np.float32)[:, :, None]

    def scale(first: int, last: int) -> None:
        maps[first:last] *= scales[first:last]

    share_out(scale, len(maps), threads)
    return maps


def _quantise(locations: NDArray[np.float32]) -> Codes:
    steps = np.abs(locations).max(axis=2, initial=0) / np.float32(LEVELS)
    np.maximum(steps, LEAST, out=steps)
    codes = np.rint(locations / steps[:, :, None])
    scales = _lengths(locations) / np.maximum(_lengths(codes), 1)  # a location of zeros has codes of length 0
    scales[steps == LEAST] = LEAST  # no code there is 127, so that another scale would move the codes
    return Codes(codes.astype(np.int8), np.maximum(scales.astype(np.float16), LEAST))


def _lengths(locations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean length of each location, [N, S], summed in LANES partial sums."""
    squares = locations * locations
    whole = squares.shape[2] - squares.shape[2] % LANES
    partial = squares[:, :, :whole].reshape(*squares.shape[:2], -1, LANES).sum(axis=2)
    sums = partial[:, :, 0]
    for lane in range(1, LANES):
        sums = sums + partial[:, :, lane]
    for channel in range(whole, squares.shape[2]):
        sums = sums + squares[:, :, channel]
    lengths: NDArray[np.float32] = np.sqrt(sums)
    return lengths
