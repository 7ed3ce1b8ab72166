"""Bytes that claim to be an image go in; what the encoder takes comes out, or one message that says why not."""

from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError

FORMATS = ("JPEG", "PNG")
LARGEST_PIXELS = 4_000_000  # a crop shows one person; what unpacks to more is a mistake or an attack
LONGEST_SIDE = 10_000  # for a strip a pixel wide the filter takes hundreds of megabytes
MOST_SCANS = 32  # of a progressive JPEG, which has about ten; each is a walk over all pixels
JPEG_START, JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xda"


def read_crop(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """A JPEG or PNG file's bytes to RGB [height, width, 3], resized as for training.

    The size is read from the file's head and judged before anything is unpacked.

    Raises:
        InputError: it is no JPEG or PNG, is larger than LARGEST_PIXELS, or is damaged.
    """
    try:
        picture = _jpeg(data) if data.startswith(JPEG_START) else None
        if picture is None:
            opened = Image.open(BytesIO(data), formats=FORMATS)
            _check_size(*opened.size)
            picture = opened.convert("RGB")
        resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"image: {len(data):,} bytes are no whole image; legal are {' and '.join(FORMATS)} files of up to "
            f"{LARGEST_PIXELS:,} pixels"
        ) from error
    return np.asarray(resized)


def _jpeg(data: bytes) -> Image.Image | None:
    """The pixels that Pillow finds, by the same libjpeg-turbo in a third of the time; None for what is left to it.

    Raises:
        InputError: it is too large, or has too many scans.
    """
    if (scans := data.count(JPEG_SCAN)) > MOST_SCANS:
        raise InputError(f"image: has {scans:,} scans; legal are {MOST_SCANS} at most")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray"):  # of the others the two make different RGB
            return None
        _check_size(width, height)
        return Image.fromarray(simplejpeg.decode_jpeg(data))
    except InputError:
        raise
    except ValueError:  # damaged, or so odd that it takes more patience
        return None


def _check_size(width: int, height: int) -> None:
    if width * height > LARGEST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise InputError(
            f"image: has {width} x {height} pixels; legal are {LARGEST_PIXELS:,} at most, and {LONGEST_SIDE:,} a side"
        )
