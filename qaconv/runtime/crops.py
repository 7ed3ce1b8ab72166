"""Read an untrusted image file as the array that the encoder takes."""

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.decode import JPEG_START, NoImage, size_of, unpack
from qaconv.runtime.resize import resize

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 4_000_000  # a crop shows one person; what decodes to more is a mistake or an attack
LONGEST_SIDE = 10_000  # for a strip a pixel wide Pillow's filter takes hundreds of megabytes
MOST_SCANS = 32  # of a progressive JPEG, which has about ten; each is a walk over all pixels
JPEG_SCAN = b"\xff\xda"


def read_crop(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG file to RGB [height, width, 3], resized as for training.

    The size is read from the file's header and checked before anything is decoded.

    Raises:
        InputError: the file is not a JPEG or PNG, has more than LARGEST_PIXELS, has too many scans, or is damaged.
    """
    try:
        _check(data)
        return resize(unpack(data, FORMATS), height, width)
    except NoImage as error:
        raise InputError(
            f"image: {error}; must be a {' or '.join(FORMATS)} file of up to {LARGEST_PIXELS:,} pixels"
        ) from error


def _check(data: bytes) -> None:
    if data.startswith(JPEG_START) and (scans := data.count(JPEG_SCAN)) > MOST_SCANS:
        raise InputError(f"image: must have at most {MOST_SCANS} scans, got {scans:,}")
    height, width = size_of(data, FORMATS)
    if width * height > LARGEST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise InputError(
            f"image: must have at most {LARGEST_PIXELS:,} pixels and {LONGEST_SIDE:,} a side, got {width} x {height}"
        )
