"""Check what Pillow does not: that PNG, WebP, BMP and TIFF files are whole, and that they hold one image.

BMP, WebP and TIFF carry no checksum of their pixels, except TIFF that is compressed by deflate. Bytes that were
changed without changing their number can't be noticed in them.
"""

import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image, TiffImagePlugin

from qaconv.runtime.formats.pixel_modes import GREY_16

PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
NOT_COMPRESSED = 0  # of BMP's compressions
BIT_FIELDS = 3
# libtiff decodes JPEG and fax data that are damaged, and Pillow does not pass on its warnings.
TIFF_COMPRESSIONS = ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits")
TIFF_WHITE_IS_ZERO = 0


def check_png(data: bytes) -> bytes:
    """Check a PNG file's chunks, and return its EXIF data, empty if there is none.

    Raises:
        ValueError: a chunk is damaged, or the last one is missing.
    """
    exif = b""
    for kind, payload in _png_chunks(data):
        if kind == b"eXIf":
            exif = payload
    return exif


def check_png_rows(data: bytes, picture: Image.Image) -> None:
    """Check that a decoded PNG has as many rows as its head states: Pillow leaves zeros where rows are missing.

    Raises:
        ValueError: the pixels are fewer, or more.
    """
    is_interlaced = data[28] == 1
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    if not is_interlaced and any(last_row.tobytes()):
        return
    coded = b"".join(payload for kind, payload in _png_chunks(data) if kind == b"IDAT")
    bits = data[24] * PNG_CHANNELS[data[25]]
    _check_inflated(coded, _png_size(picture.width, picture.height, bits, is_interlaced))


def check_webp(data: bytes) -> None:
    """Check that a WebP file is as long as its head states.

    Raises:
        ValueError: the file is shorter.
    """
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("ends early")


def check_opened(picture: Image.Image) -> None:
    """Check a picture that is opened and not yet loaded.

    Raises:
        ValueError: it has several frames, or is stored in a way in which missing pixels would not be noticed.
    """
    if getattr(picture, "is_animated", False):
        raise ValueError("several frames, must have one")
    if picture.format == "BMP" and picture.info.get("compression") not in (NOT_COMPRESSED, BIT_FIELDS):
        raise ValueError("BMP's run-length coding, allowed: none")
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        _check_tiff(picture)


def read_grey(picture: Image.Image) -> tuple[int, bool]:
    """Return the value that is white in an opened picture of 16-bit grey, and whether black and white are swapped.

    TIFF alone may have 12 bits of 16, or state that white is zero; Pillow swaps the two up to 8 bits.
    """
    if picture.mode not in GREY_16 or not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 65535, False
    tags: Any = picture.tag_v2
    bits = tags[TiffImagePlugin.BITSPERSAMPLE][0]  # a file may state more of them, of any size
    return 2**bits - 1, tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == TIFF_WHITE_IS_ZERO


def correct_transparency(picture: Image.Image, data: bytes) -> None:
    """Scale the transparent grey of a PNG of 2 or 4 bits to Pillow's 8 bits, and check a palette's indices.

    Raises:
        ValueError: a transparent colour has 16 bits, of which Pillow keeps 8, or a pixel is not in the palette.
    """
    depth, colour_type = data[24], data[25]
    transparent = picture.info.get("transparency")
    if colour_type == 0 and depth in (2, 4) and isinstance(transparent, int):
        picture.info["transparency"] = transparent * 255 // (2**depth - 1)
    if colour_type == 2 and depth == 16 and transparent is not None:
        raise ValueError("a transparent colour of 16 bits a channel, must have 8")
    if picture.mode == "P":
        colours = next(len(payload) // 3 for kind, payload in _png_chunks(data) if kind == b"PLTE")
        largest = picture.getextrema()[1]
        if isinstance(largest, int | float) and largest >= colours:
            raise ValueError(f"a pixel of colour {largest:.0f}, the palette has {colours}")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over a PNG's chunks as kind and payload.

    Raises:
        ValueError: a checksum is wrong, or the last chunk, IEND, is missing.
    """
    position = len(PNG_START)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if len(data) < end + 4:
            raise ValueError("ends early")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of {kind!r}")
        yield kind, data[position + 8 : end]
        position = end + 4


def _png_size(width: int, height: int, bits: int, is_interlaced: bool) -> int:
    """Return how many bytes the rows have, each after a byte that names its filter."""
    if not is_interlaced:
        return height * (1 + (width * bits + 7) // 8)
    size = 0
    for left, top, step_x, step_y in ADAM7:
        columns = (width - left + step_x - 1) // step_x
        rows = (height - top + step_y - 1) // step_y
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size


def _check_inflated(coded: bytes, size: int) -> None:
    inflating = zlib.decompressobj()
    if len(inflating.decompress(coded, size + 1)) < size or not inflating.eof:
        raise ValueError("fewer or more pixels than the head states")


def _check_tiff(picture: TiffImagePlugin.TiffImageFile) -> None:
    tags: Any = picture.tag_v2
    compression = picture.info.get("compression")
    if compression not in TIFF_COMPRESSIONS:
        raise ValueError(f"compression {compression}, allowed: {', '.join(TIFF_COMPRESSIONS)}")
    if set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))) != {1}:
        raise ValueError("values that are signed or floating point, must be unsigned integers; save it as 8 or 16 bits")
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    planes = 1
    if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2:
        planes = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
        if bits != 8:
            raise ValueError(f"separate planes of {bits} bits, must have 8")
    if picture.mode in ("P", "PA") and max(tags[TiffImagePlugin.COLORMAP]) < 256:
        raise ValueError("a palette of 8 bits, must have 16")
    _check_parts(tags, planes)


def _check_parts(tags: Any, planes: int) -> None:
    """Check that strips or tiles cover the image: Pillow and libtiff leave black what is missing."""
    width = tags[TiffImagePlugin.IMAGEWIDTH]
    height = tags[TiffImagePlugin.IMAGELENGTH]
    if TiffImagePlugin.STRIPOFFSETS in tags:
        part_width = width
        part_height = min(tags.get(TiffImagePlugin.ROWSPERSTRIP, height), height)
        offsets = tags[TiffImagePlugin.STRIPOFFSETS]
        sizes = tags.get(TiffImagePlugin.STRIPBYTECOUNTS, ())
    else:
        part_width = tags[TiffImagePlugin.TILEWIDTH]
        part_height = tags[TiffImagePlugin.TILELENGTH]
        offsets = tags[TiffImagePlugin.TILEOFFSETS]
        sizes = tags.get(TiffImagePlugin.TILEBYTECOUNTS, ())
    if part_width > width + 1024 or part_height > height + 1024:
        raise ValueError(f"tiles of {part_width} x {part_height} pixels for {width} x {height}")
    parts = planes * -(-width // part_width) * -(-height // part_height)
    is_complete = len(offsets) == parts and all(offsets)
    if not is_complete or (sizes and (len(sizes) != parts or not all(sizes))):
        raise ValueError(f"{len(offsets)} strips or tiles, must have {parts}")
