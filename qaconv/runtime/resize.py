"""Pixels go in; those of the same image at another size come out, by Pillow's bicubic filter."""

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.runtime.cbuild import load_library

SOURCE = Path(__file__).with_name("resize.c")


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """RGB [H, W, 3] to [height, width, 3]: Pillow's bytes, in less than half its time where there is a C compiler.

    Raises:
        MemoryError: there is not enough of it.
    """
    library = load_resizing()
    if library is None:
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.ascontiguousarray(pixels)
    resized = np.empty((height, width, 3), dtype=np.uint8)
    before, after = (ctypes.c_void_p(array.ctypes.data) for array in (pixels, resized))
    if library.resize(before, *pixels.shape[:2], after, height, width):
        raise MemoryError(f"{pixels.shape[0]} x {pixels.shape[1]} pixels")
    return resized


def load_resizing() -> ctypes.CDLL | None:
    """resize.c, for a process whose children are to inherit it."""
    return load_library(SOURCE, "Pillow resizes, which is slower")
