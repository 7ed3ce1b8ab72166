"""The bytes of an image file go in; its pixels, or how many there are, come out."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError

JPEG_START = b"\xff\xd8\xff"


class DecodeError(InputError):
    """Bytes that are no whole image."""


def decode_image(data: bytes, formats: tuple[str, ...] | None = None) -> NDArray[np.uint8]:
    """RGB [H, W, 3], as Pillow finds them.

    Args:
        data: the file.
        formats: Pillow's names of those that are legal beside JPEG; None is all that it reads.

    Raises:
        DecodeError: it is damaged, or of another format.
    """
    if data.startswith(JPEG_START):
        try:  # the pixels that Pillow finds, by the same libjpeg-turbo in a third of the time
            if simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "Gray"):  # of others the two make different RGB
                return simplejpeg.decode_jpeg(data)
        except ValueError:  # damaged, or so odd that it takes Pillow's patience
            pass
    with _opened(data, formats) as picture:
        return np.asarray(picture.convert("RGB"))


def size_of(data: bytes, formats: tuple[str, ...]) -> tuple[int, int]:
    """Height and width in pixels, from the file's head; nothing is unpacked.

    Raises:
        DecodeError: it has no such head.
    """
    if data.startswith(JPEG_START):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            return height, width
        except ValueError:
            pass
    with _opened(data, formats) as picture:
        return picture.height, picture.width


@contextmanager
def _opened(data: bytes, formats: tuple[str, ...] | None) -> Iterator[Image.Image]:
    try:
        with Image.open(BytesIO(data), formats=formats) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{len(data):,} bytes are no whole image") from error
