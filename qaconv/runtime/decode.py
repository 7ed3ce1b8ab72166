"""Decode image files to upright 8-bit RGB: one list of formats, limits and conversions for all that reads images."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError
from qaconv.runtime.formats import jpeg
from qaconv.runtime.formats.containers import (
    PNG_START,
    check_opened,
    check_png,
    check_png_rows,
    check_webp,
    correct_transparency,
    read_grey,
)
from qaconv.runtime.formats.orientation import read_orientation, turn_upright
from qaconv.runtime.formats.pixel_modes import to_rgb

# Media types by Pillow's names, in any case. Others are left out, such as GIF and AVIF: they are not used for crops,
# and each one is a decoder that a service would offer to strangers.
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "BMP": "image/bmp", "WebP": "image/webp", "TIFF": "image/tiff"}
ALLOWED_FORMATS = ", ".join(FORMATS)
LARGEST_PIXELS = 4_000_000  # a crop shows one person; a larger image is a mistake or an attack
LONGEST_SIDE = 10_000  # for a strip a pixel wide Pillow's filter takes hundreds of megabytes
LIMITS = f"must have at most {LARGEST_PIXELS:,}, and {LONGEST_SIDE:,} a side"
SIGNATURES = (
    (jpeg.START, "JPEG"),
    (PNG_START, "PNG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "ICO"),
    (b"%PDF", "PDF"),
    (b"P5", "PGM"),
    (b"P6", "PPM"),
)
BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}  # of ISO base media files


class DecodeError(InputError):
    """An image file that is not decoded; the message is a predicate, such as "is not an image"."""


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Decode an image file to RGB [H, W, 3], upright.

    Transparent pixels are composited on `pixel_modes.BACKGROUND`, and 16-bit grey is scaled to 8 bits.

    Raises:
        DecodeError: the file is damaged or incomplete, too large, of a format that is not in `FORMATS`, or of pixels
            without a defined conversion to 8 bits.
    """
    kind = find_format(data)
    with _refuse_faults(kind):
        if kind != "JPEG":
            return _decode_by_pillow(data, kind)
        head = jpeg.read_head(data)
        orientation = read_orientation(head.exif)
        _check_size(head.height, head.width, orientation)
        return turn_upright(jpeg.decode(data, head), orientation)


def count_pixels(data: bytes) -> int:
    """Count the pixels of an image file by its head, without decoding it.

    Raises:
        DecodeError: the head is damaged, states too large an image, or is of a format that is not in `FORMATS`.
    """
    kind = find_format(data)
    with _refuse_faults(kind):
        if kind == "JPEG":
            head = jpeg.read_head(data)
            height = head.height
            width = head.width
        else:
            with Image.open(BytesIO(data), formats=(kind,)) as picture:
                width, height = picture.size
        _check_size(height, width, orientation=1)
    return height * width


def find_format(data: bytes) -> str:
    """Return which of `FORMATS` a file is, by its first bytes.

    Raises:
        DecodeError: it is of another format, or not an image.
    """
    kind = next((name for start, name in SIGNATURES if data.startswith(start)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WebP"
    elif data[4:8] == b"ftyp":
        kind = BRANDS.get(data[8:12])
    if kind is None:
        raise DecodeError(f"is not an image, allowed: {ALLOWED_FORMATS}")
    if kind not in FORMATS:
        raise DecodeError(f"is a {kind} file, allowed: {ALLOWED_FORMATS}")
    return kind


@contextmanager
def _refuse_faults(kind: str) -> Iterator[None]:
    """Raise a fault of a file as a DecodeError."""
    try:
        yield
    except DecodeError:
        raise
    except Image.DecompressionBombError as error:
        raise DecodeError(f"has too many pixels, {LIMITS}") from error
    except Exception as error:  # decoders raise many kinds when a file is damaged
        reason = str(error).partition(" <")[0] or type(error).__name__  # Pillow's messages end in an address
        raise DecodeError(f"cannot be decoded as {kind}: {reason}") from error


def _check_size(height: int, width: int, orientation: int) -> None:
    if orientation >= 5:
        height, width = width, height
    if width * height > LARGEST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise DecodeError(f"has {width} x {height} pixels, {LIMITS}")


def _decode_by_pillow(data: bytes, kind: str) -> NDArray[np.uint8]:
    exif = b""
    if kind == "PNG":
        exif = check_png(data)
    elif kind == "WebP":
        check_webp(data)
    with Image.open(BytesIO(data), formats=(kind,)) as picture:
        if kind == "WebP":
            exif = picture.info.get("exif", b"")
        orientation = read_orientation(exif)
        _check_size(picture.height, picture.width, orientation)
        check_opened(picture)
        largest, is_inverted = read_grey(picture)
        picture.load()
        if kind == "PNG":
            check_png_rows(data, picture)
            correct_transparency(picture, data)
        rgb = to_rgb(picture, largest=largest)
    if is_inverted:
        rgb = 255 - rgb
    return turn_upright(rgb, orientation)
