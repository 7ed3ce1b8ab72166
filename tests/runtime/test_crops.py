from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError
from qaconv.runtime.crops import read_crop, read_crop_file
from qaconv.runtime.decode import FORMATS, LARGEST_PIXELS, LONGEST_SIDE
from qaconv.runtime.formats.jpeg import MOST_SCANS
from tests.runtime.image_files import blobs, encode

HEIGHT, WIDTH = 24, 16


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(data)) as picture:
        resized = picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is repeated."""
    data = encode(blobs(16, 32), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


@given(
    st.integers(1, 90),
    st.integers(1, 180),
    st.sampled_from(["RGB", "L", "CMYK"]),
    st.integers(20, 100),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
def test_a_jpeg_equals_pillows_to_the_last_bit(
    width: int, height: int, mode: str, quality: int, subsampling: int, is_progressive: bool
) -> None:
    if mode == "CMYK":
        subsampling = 0  # in others of Pillow's files only the first of four components is whole, which is refused
    options: dict[str, object] = {"quality": quality, "subsampling": subsampling, "progressive": is_progressive}
    data = encode(blobs(width, height).convert(mode), "JPEG", **options)
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
def test_a_png_equals_pillows(mode: str) -> None:
    data = encode(blobs(30, 60).convert(mode), "PNG")
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


def test_a_jpeg_of_more_scans_than_any_encoder_writes_is_refused() -> None:
    assert read_crop(encode(blobs(16, 32), "JPEG", progressive=True), HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match="Inconsistent progression"):
        read_crop(progressive(MOST_SCANS), HEIGHT, WIDTH)
    with pytest.raises(InputError, match="image: cannot be decoded as JPEG: 33 scans, must have at most 32"):
        read_crop(progressive(MOST_SCANS + 1), HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_long_strip_of_few_pixels_is_refused(kind: str) -> None:
    strip = encode(Image.new("RGB", (LONGEST_SIDE + 1, 1)), kind)
    with pytest.raises(InputError, match="image: has 10001 x 1 pixels, must have at most 4,000,000, and 10,000 a side"):
        read_crop(strip, HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_large_image_is_refused_by_its_upright_size(kind: str) -> None:
    width = 2_500
    height = LARGEST_PIXELS // width + 1
    tags = Image.Exif()
    tags[274] = 6
    size = f"{width} x {height}" if kind == "BMP" else f"{height} x {width}"
    data = encode(Image.new("L", (width, height)), kind, **({} if kind == "BMP" else {"exif": tags}))
    with pytest.raises(InputError, match=f"image: has {size} pixels, must have at most 4,000,000"):
        read_crop(data, HEIGHT, WIDTH)


def test_a_file_that_cannot_be_read_or_decoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}/none.png: cannot be read: No such file or directory"):
        read_crop_file(tmp_path / "none.png", HEIGHT, WIDTH)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match=f"{tmp_path}/text.png: is not an image, allowed: "):
        read_crop_file(tmp_path / "text.png", HEIGHT, WIDTH)
