"""Bytes that claim to be an image go in; what the encoder takes comes out, or one message that says why not."""

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.decode import JPEG_START, DecodeError, decode_image, size_of
from qaconv.runtime.resize import resize

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 4_000_000  # a crop shows one person; what unpacks to more is a mistake or an attack
LONGEST_SIDE = 10_000  # for a strip a pixel wide Pillow's filter takes hundreds of megabytes
MOST_SCANS = 32  # of a progressive JPEG, which has about ten; each is a walk over all pixels
JPEG_SCAN = b"\xff\xda"


def read_crop(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """A JPEG or PNG file's bytes to RGB [height, width, 3], resized as for training.

    The size is read from the file's head and judged before anything is unpacked.

    Raises:
        InputError: it is no JPEG or PNG, is larger than LARGEST_PIXELS, has too many scans, or is damaged.
    """
    try:
        _check(data)
        return resize(decode_image(data, FORMATS), height, width)
    except DecodeError as error:
        raise InputError(
            f"image: {error}; legal are {' and '.join(FORMATS)} files of up to {LARGEST_PIXELS:,} pixels"
        ) from error


def _check(data: bytes) -> None:
    if data.startswith(JPEG_START) and (scans := data.count(JPEG_SCAN)) > MOST_SCANS:
        raise InputError(f"image: has {scans:,} scans; legal are {MOST_SCANS} at most")
    height, width = size_of(data, FORMATS)
    if width * height > LARGEST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise InputError(
            f"image: has {width} x {height} pixels; legal are {LARGEST_PIXELS:,} at most, and {LONGEST_SIDE:,} a side"
        )
