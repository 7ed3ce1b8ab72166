"""Bytes that claim to be an image go in; what the encoder takes comes out, or one message that says why not."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 4_000_000  # a crop shows one person; what unpacks to more is a mistake or an attack


def read_crop(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """A JPEG or PNG file's bytes to RGB [height, width, 3], resized as for training.

    The size is read from the file's head and judged before anything is unpacked.

    Raises:
        InputError: it is no JPEG or PNG, is larger than LARGEST_PIXELS, or is damaged.
    """
    try:
        picture = Image.open(BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > LARGEST_PIXELS:
            raise InputError(
                f"image: has {picture.width} x {picture.height} pixels; legal are {LARGEST_PIXELS:,} at most"
            )
        resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"image: {len(data):,} bytes are no whole image; legal are {' and '.join(FORMATS)} files of up to "
            f"{LARGEST_PIXELS:,} pixels"
        ) from error
    return np.asarray(resized)
