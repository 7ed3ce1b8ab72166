import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from qaconv.runtime import cbuild
from qaconv.runtime.resize import load_resizing, resize

sides = st.integers(1, 200)
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, cbuild.COMPILERS)), reason="no C compiler")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Half of it black and white: there the filter overshoots."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(rng.random((height, width, 1)) < 0.5, grey, 255 * (grey >> 7)).astype(np.uint8)


def by_pillow(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


@needs_compiler
@settings(deadline=None)  # the first call builds the library
@given(sides, sides, sides, sides, st.integers(0, 9))
@example(128, 64, 384, 128, 0)
@example(3000, 127, 102, 54, 0)  # so much of the height goes that Pillow begins with it
@example(150, 200, 100, 175, 0)  # just not
@example(1, 1, 384, 128, 0)
def test_pillows_bytes_come_out_at_any_size(rows: int, columns: int, height: int, width: int, seed: int) -> None:
    assert load_resizing() is not None
    pixels = noise(rows, columns, seed)
    assert np.array_equal(resize(pixels, height, width), by_pillow(pixels, height, width))


def test_a_view_is_resized_as_its_copy_is() -> None:
    pixels = noise(90, 80)[::-1, 10:50]
    assert np.array_equal(resize(pixels, 96, 48), by_pillow(pixels.copy(), 96, 48))


def test_pillow_resizes_where_there_is_no_compiler(
    no_library_loaded: None, tmp_path: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pixels = noise(128, 64)
    for _ in range(2):
        resized = resize(pixels, 96, 48)
        assert np.array_equal(resized, by_pillow(pixels, 96, 48)) and resized.flags.writeable
    assert [record.getMessage() for record in caplog.records] == [
        "there is no C compiler (cc, gcc, clang): Pillow resizes, which is slower"
    ]
