"""Pixels of every mode and depth are converted to 8-bit RGB, or refused by mode."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from qaconv.runtime.decode import DecodeError, decode_image
from qaconv.runtime.formats.pixel_modes import BACKGROUND, GREY_16, OPAQUE, WITH_ALPHA, to_rgb
from tests.runtime.image_files import blobs, by_pillow, chunk, encode, png, tiff

RGB = blobs(6, 4)
CUT_OUT = Image.merge("RGBA", (*RGB.split(), Image.new("L", RGB.size, 0)))
PLAIN = {256: 2, 257: 1, 258: 16, 259: 1, 262: 1, 277: 1, 278: 1}  # TIFF of 2 x 1 pixels of 16-bit grey


def palette_picture(transparent: bytes | None = None) -> Image.Image:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    if transparent is not None:
        picture.info["transparency"] = transparent
    return picture


def palette_with_alpha() -> Image.Image:
    picture = Image.frombytes("PA", (2, 1), b"\0\0\1\xff")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    return picture


def grey_16(values: list[int]) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


def with_alpha(mode: str, pixel: tuple[int, ...]) -> Image.Image:
    return Image.frombytes(mode, (1, 1), bytes(pixel))


def blend(value: int, alpha: int) -> int:
    return round((value * alpha + BACKGROUND * (255 - alpha)) / 255)


# Pixels of a picture's only row; None where the mode is refused.
MODES: dict[str, tuple[Image.Image, list[tuple[int, int, int]] | None]] = {
    "1": (Image.frombytes("1", (2, 1), b"\x80"), [(255,) * 3, (0,) * 3]),
    "L": (Image.frombytes("L", (2, 1), b"\x07\xf0"), [(7,) * 3, (240,) * 3]),
    "P": (palette_picture(), [(10, 20, 30), (200, 100, 50)]),
    "P with alpha": (palette_picture(b"\x00\xff"), [(BACKGROUND,) * 3, (200, 100, 50)]),
    "RGB": (Image.frombytes("RGB", (1, 1), b"\1\2\3"), [(1, 2, 3)]),
    "RGBX": (Image.frombytes("RGBX", (1, 1), b"\1\2\3\0"), [(1, 2, 3)]),
    "CMYK": (Image.frombytes("CMYK", (1, 1), b"\xff\0\0\0"), [(0, 255, 255)]),
    "YCbCr": (Image.frombytes("YCbCr", (1, 1), b"\x40\x80\x80"), [(64, 64, 64)]),
    "HSV": (Image.frombytes("HSV", (1, 1), b"\0\0\x21"), [(33, 33, 33)]),
    "LA": (with_alpha("LA", (90, 100)), [(blend(90, 100),) * 3]),
    "La": (with_alpha("La", (50, 127)), [(blend(round(50 * 255 / 127), 127),) * 3]),
    "PA": (palette_with_alpha(), [(BACKGROUND,) * 3, (200, 100, 50)]),
    "RGBA": (with_alpha("RGBA", (10, 20, 30, 200)), [(blend(10, 200), blend(20, 200), blend(30, 200))]),
    "RGBa": (with_alpha("RGBa", (0, 0, 0, 0)), [(BACKGROUND,) * 3]),
    "I;16": (grey_16([0, 128, 129, 65535]), [(0,) * 3, (0,) * 3, (1,) * 3, (255,) * 3]),
    "I;16L": (Image.frombytes("I;16L", (1, 1), b"\x01\x80"), [(128,) * 3]),
    "I;16B": (Image.frombytes("I;16B", (1, 1), b"\x80\x01"), [(128,) * 3]),
    "I;16N": (Image.frombytes("I;16N", (1, 1), struct.pack("=H", 32769)), [(128,) * 3]),
    "I": (Image.new("I", (1, 1), 300), None),
    "F": (Image.new("F", (1, 1), 0.5), None),
    "LAB": (Image.new("LAB", (1, 1)), None),
}


@pytest.mark.parametrize("name", MODES)
def test_a_mode_is_converted_or_refused(name: str) -> None:
    picture, pixels = MODES[name]
    assert picture.mode == name.split()[0]
    if pixels is None:
        with pytest.raises(
            ValueError, match=f"pixels of mode {picture.mode}, whose conversion to 8 bits is not defined"
        ):
            to_rgb(picture)
    else:
        assert to_rgb(picture).dtype == np.uint8
        assert to_rgb(picture).tolist() == [list(map(list, pixels))]


def test_every_mode_that_is_converted_is_in_the_table() -> None:
    assert {name.split()[0] for name, (_, pixels) in MODES.items() if pixels} == {*OPAQUE, *WITH_ALPHA, *GREY_16}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_files_give_the_pixels_that_pillow_gives(kind: str, mode: str) -> None:
    data = encode(blobs(30, 60).convert(mode), kind)
    assert np.array_equal(decode_image(data), by_pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_range(kind: str) -> None:
    pixels = decode_image(encode(grey_16([0, 257, 20_000, 65535]), kind))
    assert pixels[0, :, 0].tolist() == [0, 1, 78, 255]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_colours_under_transparent_pixels_are_not_seen(kind: str, options: dict[str, object]) -> None:
    assert (decode_image(encode(CUT_OUT, kind, **options)) == BACKGROUND).all()


def test_a_bmp_is_transparent_where_it_has_a_mask_for_alpha() -> None:
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 130, 0, 0, 122) + head + b"\x09\x09\x09\0\x09\x09\x09\xff"
    assert decode_image(data)[0, :, 0].tolist() == [BACKGROUND, 9]
    assert np.array_equal(
        decode_image(encode(CUT_OUT, "BMP")), np.asarray(RGB)
    )  # without a mask the fourth byte means nothing


# Rows of a PNG of 2 x 1 pixels: depth, colour type, row, chunks before the pixels, and the two pixels.
PNG_DEPTHS = {
    "grey 1": (1, 0, b"\x40", [], [0, 255]),
    "grey 2": (2, 0, b"\x60", [], [85, 170]),
    "grey 4": (4, 0, b"\x3f", [], [51, 255]),
    "grey 8": (8, 0, b"\x03\xf0", [], [3, 240]),
    "grey 16": (16, 0, b"\x01\x01\x80\x01", [], [1, 128]),
    "grey 1, transparent": (1, 0, b"\x40", [chunk(b"tRNS", b"\0\1")], [0, BACKGROUND]),
    "grey 2, transparent": (2, 0, b"\x60", [chunk(b"tRNS", b"\0\2")], [85, BACKGROUND]),
    "grey 4, transparent": (4, 0, b"\x3f", [chunk(b"tRNS", b"\0\x0f")], [51, BACKGROUND]),
    "grey 8, transparent": (8, 0, b"\x03\xf0", [chunk(b"tRNS", b"\0\3")], [BACKGROUND, 240]),
    "grey 16, transparent": (16, 0, b"\x01\x01\x80\x01", [chunk(b"tRNS", b"\x80\1")], [1, BACKGROUND]),
    "RGB 8, transparent": (8, 2, b"\1\1\1\2\2\2", [chunk(b"tRNS", b"\0\1\0\1\0\1")], [BACKGROUND, 2]),
    "RGB 16": (16, 2, b"\x01\x01" * 3 + b"\x80\x80" * 3, [], [1, 128]),
    "palette 1": (1, 3, b"\x40", [chunk(b"PLTE", b"\1\1\1\2\2\2")], [1, 2]),
    "palette 2, transparent": (
        2,
        3,
        b"\x10",
        [chunk(b"PLTE", b"\1\1\1\2\2\2"), chunk(b"tRNS", b"\0")],
        [BACKGROUND, 2],
    ),
    "palette 8": (8, 3, b"\1\0", [chunk(b"PLTE", b"\1\1\1\2\2\2")], [2, 1]),
    "grey 8, alpha": (8, 4, b"\x09\0\x09\xff", [], [BACKGROUND, 9]),
    "grey 16, alpha": (16, 4, b"\x09\x09\0\0\x09\x09\xff\xff", [], [BACKGROUND, 9]),
    "RGB 8, alpha": (8, 6, b"\x09\x09\x09\0\x09\x09\x09\xff", [], [BACKGROUND, 9]),
    "RGB 16, alpha": (16, 6, (b"\x09\x09" * 3 + b"\0\0") + (b"\x09\x09" * 3 + b"\xff\xff"), [], [BACKGROUND, 9]),
}


@pytest.mark.parametrize("name", PNG_DEPTHS)
def test_each_depth_of_png_is_scaled_to_8_bits(name: str) -> None:
    depth, colour_type, row, chunks, values = PNG_DEPTHS[name]
    pixels = decode_image(png((2, 1), depth, colour_type, [row], *chunks))
    assert pixels.tolist() == [[[value] * 3 for value in values]]


TIFFS: dict[str, tuple[Callable[[], bytes], list[int]]] = {
    "16 bits": (lambda: tiff(PLAIN, [struct.pack("<HH", 257, 65535)]), [1, 255]),
    "16 bits, big-endian": (lambda: tiff(PLAIN, [struct.pack(">HH", 257, 65535)], ">"), [1, 255]),
    "16 bits, white is zero": (lambda: tiff({**PLAIN, 262: 0}, [struct.pack("<HH", 257, 65535)]), [254, 0]),
    "12 bits": (lambda: tiff({**PLAIN, 258: 12}, [b"\x00\x0f\xff"]), [0, 255]),
    "16 bits, and 4 billion of a second channel": (
        lambda: tiff({**PLAIN, 258: [16, 2**32 - 1]}, [struct.pack("<HH", 257, 65535)]),
        [1, 255],
    ),
    "8 bits, and 4 billion of a second channel": (
        lambda: tiff({**PLAIN, 258: [8, 2**32 - 1]}, [b"\x01\xff"]),
        [1, 255],
    ),
    "8 bits, white is zero": (lambda: tiff({**PLAIN, 258: 8, 262: 0}, [b"\x01\xff"]), [254, 0]),
    "premultiplied alpha": (
        lambda: tiff({**PLAIN, 258: [8] * 4, 262: 2, 277: 4, 338: 1}, [bytes(4) + b"\x09\x09\x09\xff"]),
        [BACKGROUND, 9],
    ),
}


@pytest.mark.parametrize("name", TIFFS)
def test_each_depth_of_tiff_is_scaled_to_8_bits(name: str) -> None:
    make, values = TIFFS[name]
    assert decode_image(make()).tolist() == [[[value] * 3 for value in values]]


REFUSED_TIFFS: dict[str, tuple[Callable[[], bytes], str]] = {
    "float": (lambda: encode(Image.new("F", (2, 2), 0.5), "TIFF"), "floating point"),
    "32 bits": (lambda: encode(Image.new("I", (2, 2), 9), "TIFF"), "signed"),
    "unsigned 32 bits": (lambda: tiff({**PLAIN, 258: 32}, [bytes(8)]), "pixels of mode I,"),
    "signed 16 bits": (lambda: tiff({**PLAIN, 339: 2}, [bytes(4)]), "signed"),
    "signed 8 bits": (lambda: tiff({**PLAIN, 258: 8, 339: 2}, [bytes(2)]), "signed"),
    "LAB": (lambda: encode(Image.new("LAB", (2, 2)), "TIFF"), "pixels of mode LAB"),
    "planes of 16 bits": (
        lambda: tiff({**PLAIN, 258: [16] * 3, 262: 2, 277: 3, 284: 2}, [bytes(4)] * 3),
        "separate planes of 16 bits",
    ),
    "palette of 8 bits": (
        lambda: tiff({**PLAIN, 258: 8, 262: 3, 320: [200] * 768}, [bytes(2)]),
        "a palette of 8 bits, must have 16",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TIFFS)
def test_a_tiff_without_a_defined_range_of_values_is_refused(name: str) -> None:
    make, message = REFUSED_TIFFS[name]
    with pytest.raises(DecodeError, match=message):
        decode_image(make())


def test_a_transparent_colour_of_16_bits_is_refused() -> None:
    data = png((1, 1), 16, 2, [bytes(6)], chunk(b"tRNS", bytes(6)))
    with pytest.raises(DecodeError, match="a transparent colour of 16 bits"):
        decode_image(data)


def test_the_colours_of_a_jpeg_follow_its_adobe_marker() -> None:
    for mode, transform in (("CMYK", 0), ("CMYK", 2), ("RGB", 0), ("RGB", 1)):
        data = encode(blobs(30, 60).convert(mode), "JPEG", subsampling=0)
        jfif = data.find(b"\xff\xe0")
        if jfif >= 0:
            data = data[:jfif] + data[jfif + 18 :]
        adobe = data.find(b"\xff\xee")
        if adobe >= 0:
            data = data[:adobe] + data[adobe + 16 :]
        marker = b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])
        data = data[:2] + marker + data[2:]
        assert np.array_equal(decode_image(data), by_pillow(data)), (mode, transform)
