from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qaconv.errors import InputError
from qaconv.runtime.crops import LONGEST_SIDE, MOST_SCANS, read_crop

HEIGHT, WIDTH = 24, 16


def file(picture: Image.Image, kind: str, **options: object) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Blobs of colour: noise would be the same at any quality."""
    blobs = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)


def by_pillow(data: bytes) -> np.ndarray:
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
def test_a_jpeg_is_what_pillow_makes_of_it_to_the_last_bit(
    width: int, height: int, mode: str, quality: int, subsampling: int, is_progressive: bool
) -> None:
    options = {"quality": quality, "subsampling": subsampling, "progressive": is_progressive}
    data = file(picture(width, height).convert(mode), "JPEG", **options)
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1"])
def test_a_png_is_what_pillow_makes_of_it(mode: str) -> None:
    data = file(picture(30, 60).convert(mode), "PNG")
    assert np.array_equal(read_crop(data, HEIGHT, WIDTH), by_pillow(data))


def test_a_jpeg_of_more_scans_than_anyone_needs_is_refused_before_it_is_unpacked() -> None:
    assert read_crop(progressive(MOST_SCANS), HEIGHT, WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match="image: has 33 scans; legal are 32 at most"):
        read_crop(progressive(MOST_SCANS + 1), HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_strip_is_refused_however_few_its_pixels(kind: str) -> None:
    strip = file(Image.new("RGB", (LONGEST_SIDE + 1, 1)), kind)
    with pytest.raises(InputError, match="image: has 10001 x 1 pixels; legal are 4,000,000 at most, and 10,000 a side"):
        read_crop(strip, HEIGHT, WIDTH)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_half_a_jpeg_is_refused(kept: float) -> None:
    data = file(picture(64, 128), "JPEG")
    with pytest.raises(InputError, match="are no whole image"):
        read_crop(data[: int(kept * len(data))], HEIGHT, WIDTH)
