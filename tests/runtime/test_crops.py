from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from qaconv.errors import InputError
from qaconv.runtime.crops import LONGEST_SIDE, MOST_SCANS, read_crop

HEIGHT, WIDTH = 24, 16


def file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Blobs of colour: noise would be the same at any quality."""
    blobs = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    read = Image.open(BytesIO(data)).convert("RGB")
    return np.asarray(read.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is repeated."""
    data = file(picture(16, 32), "JPEG", progressive=True)
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
def test_a_jpeg_is_read_as_pillow_reads_it_to_the_last_bit(
    width: int, height: int, mode: str, quality: int, subsampling: int, is_progressive: bool
) -> None:
    options: dict[str, Any] = {"quality": quality, "subsampling": subsampling, "progressive": is_progressive}
    data = file(picture(width, height).convert(mode), "JPEG", **options)
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
def test_a_png_is_read_as_pillow_reads_it(mode: str) -> None:
    data = file(picture(30, 60).convert(mode), "PNG")
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


def test_a_jpeg_of_too_many_scans_is_rejected() -> None:
    assert read_crop(progressive(MOST_SCANS), HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match="image: must have at most 32 scans, got 33"):
        read_crop(progressive(MOST_SCANS + 1), HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_long_strip_of_few_pixels_is_rejected(kind: str) -> None:
    strip = file(Image.new("RGB", (LONGEST_SIDE + 1, 1)), kind)
    with pytest.raises(InputError, match="image: must have at most 4,000,000 pixels and 10,000 a side, got 10001 x 1"):
        read_crop(strip, HEIGHT, WIDTH)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_part_of_a_jpeg_is_rejected(kept: float) -> None:
    data = file(picture(64, 128), "JPEG")
    with pytest.raises(InputError, match="are not a whole image"):
        read_crop(data[: int(kept * len(data))], HEIGHT, WIDTH)
