"""Resize images by Pillow's bicubic filter, in C where there is a compiler."""

import ctypes
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.runtime.cbuild import load_library

SOURCE = Path(__file__).with_name("resize.c")


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize RGB [H, W, 3] to [height, width, 3].

    The result equals Pillow's to the byte. With a C compiler it takes less than half of Pillow's time.

    Raises:
        MemoryError: the C function cannot allocate its buffers.
    """
    library = load_resizing()
    if library is None:
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    pixels = np.ascontiguousarray(pixels)
    resized = np.empty((height, width, 3), dtype=np.uint8)
    source = ctypes.c_void_p(pixels.ctypes.data)
    target = ctypes.c_void_p(resized.ctypes.data)
    if library.resize(source, *pixels.shape[:2], target, height, width):
        raise MemoryError(f"not enough memory to resize {pixels.shape[0]} x {pixels.shape[1]} pixels")
    return resized


def load_resizing() -> ctypes.CDLL | None:
    """Load resize.c, compiled at first use. Children that a process starts afterwards inherit it."""
    return load_library(SOURCE, "Pillow resizes, which is slower")
