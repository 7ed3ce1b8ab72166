"""Images are turned upright by their EXIF orientation, as Pillow's `exif_transpose` turns them."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from qaconv.runtime.crops import read_crop
from qaconv.runtime.decode import decode_image
from qaconv.runtime.formats.orientation import read_orientation
from qaconv.runtime.resize import resize
from tests.runtime.image_files import blobs, by_pillow, encode, exif

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"lossless": True}),
    "TIFF": ("TIFF", {}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
}


def upright(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def with_orientation(name: str, orientation: int) -> bytes:
    kind, options = KINDS[name]
    tags = Image.Exif()
    tags[274] = orientation
    return encode(blobs(33, 20), kind, exif=tags, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", KINDS)
def test_an_image_is_turned_upright(name: str, orientation: int) -> None:
    data = with_orientation(name, orientation)
    pixels = decode_image(data)
    assert pixels.shape == ((20, 33, 3) if orientation < 5 else (33, 20, 3))
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, upright(data))
    assert np.array_equal(read_crop(data, 24, 16), resize(upright(data), 24, 16))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_are_read(order: str) -> None:
    data = encode(blobs(33, 20), "JPEG", exif=b"Exif\0\0" + exif(6, order))
    assert np.array_equal(decode_image(data), upright(data))


def test_exif_is_found_after_other_segments_and_before_a_thumbnail() -> None:
    plain = encode(blobs(33, 20), "JPEG")
    thumbnail = encode(blobs(8, 5), "JPEG", exif=b"Exif\0\0" + exif(3))
    payloads = [b"http://ns.adobe.com/xap/1.0/\0<x/>", b"Exif\0\0" + exif(6) + thumbnail, b"Exif\0\0" + exif(3)]
    segments = b"".join(b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload for payload in payloads)
    assert np.array_equal(decode_image(plain[:20] + segments + plain[20:]), np.rot90(decode_image(plain), -1))


def test_exif_of_png_may_follow_the_pixels() -> None:
    data = encode(blobs(33, 20), "PNG", exif=exif(6))
    start = data.index(b"eXIf") - 4
    size = 12 + int.from_bytes(data[start : start + 4], "big")
    moved = data[:start] + data[start + size : -12] + data[start : start + size] + data[-12:]
    assert np.array_equal(decode_image(moved), np.rot90(by_pillow(data), -1))


MALFORMED = [
    b"",
    b"Exif\0\0",
    exif(6)[:20],
    exif(0),
    exif(9),
    exif(65535),
    b"XX" + exif(6)[2:],
    b"II*\0\xff\xff\xff\xff",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_exif_is_upright(data: bytes) -> None:
    assert read_orientation(data) == 1
    picture = blobs(33, 20)
    plain = encode(picture, "JPEG")
    assert np.array_equal(decode_image(encode(picture, "JPEG", exif=b"Exif\0\0" + data)), decode_image(plain))


def test_exif_values_may_be_bytes_or_longs() -> None:
    entry = {"<": b"\x12\1\1\0\1\0\0\0\6\0\0\0", ">": b"\1\x12\0\4\0\0\0\1\0\0\0\6"}
    for order, data in entry.items():
        start = exif(1, order)
        assert read_orientation(start[:10] + data + bytes(4)) == 6
