"""Decode image files, or read their size."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError

JPEG_START = b"\xff\xd8\xff"


class NoImage(InputError):
    """Bytes that are not a whole image."""


def unpack(data: bytes, formats: tuple[str, ...] | None = None) -> NDArray[np.uint8]:
    """Decode an image file to RGB [H, W, 3], the pixels that Pillow gives.

    Args:
        data: content of the file.
        formats: Pillow's names of the formats that are allowed in addition to JPEG. Default: all that Pillow reads.

    Raises:
        NoImage: the file is damaged, or of another format.
    """
    if data.startswith(JPEG_START):
        try:  # the same pixels by the same libjpeg-turbo in a third of the time
            if simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "Gray"):  # of others the two make different RGB
                pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
                return pixels
        except ValueError:  # damaged, or of a kind that only Pillow reads
            pass
    with _opened(data, formats) as picture:
        return np.asarray(picture.convert("RGB"))


def size_of(data: bytes, formats: tuple[str, ...]) -> tuple[int, int]:
    """Read height and width in pixels from the file's header; nothing is decoded.

    Raises:
        NoImage: the file has no such header.
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
        raise NoImage(f"{len(data):,} bytes are not a whole image") from error
