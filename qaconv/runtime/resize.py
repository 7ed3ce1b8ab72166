"""Resize images by Pillow's bicubic filter."""

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.runtime.cbuild import load_library

SOURCE = Path(__file__).with_name("resize.c")


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize RGB [H, W, 3] to [height, width, 3]: Pillow's bytes, in less than half its time if a C compiler is there.

    Raises:
        MemoryError: there is not enough memory.
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
    """Load resize.c; a process whose children inherit it calls this before it starts them."""
    return load_library(SOURCE, "Pillow resizes, which is slower")
