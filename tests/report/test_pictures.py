from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qaconv.report.page import RUN, Run, add_run
from qaconv.report.pictures import HEAD, data_uri


def pixels(uri: str) -> NDArray[np.float64]:
    head, content = uri.split(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(BytesIO(b64decode(content))).convert("RGB"), dtype=float)


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    """A crop of black and white squares, 4 pixels wide, with a word in its metadata."""
    squares = (np.indices((128, 64)) // 4).sum(axis=0) % 2 * 255
    note = Image.Exif()
    note[0x010E] = "a private word"
    Image.fromarray(squares.astype(np.uint8)).save(tmp_path / "crop.png", exif=note)
    return tmp_path / "crop.png"


def test_blur_takes_the_detail_from_the_head_part_and_leaves_the_rest(crop: Path) -> None:
    clear, blurred = (pixels(data_uri(crop, blur=blur)) for blur in (False, True))
    head = round(HEAD * len(clear))
    assert clear[: head - 4].std() > 100 > 20 > blurred[: head - 4].std()
    assert np.abs(blurred[head + 16 :] - clear[head + 16 :]).mean() < 10


def test_the_picture_carries_no_metadata_of_the_file(crop: Path) -> None:
    assert b"private" in crop.read_bytes()
    assert b"private" not in b64decode(data_uri(crop, blur=False).split(",")[1])


def test_a_page_that_has_a_run_already_is_refused() -> None:
    page = add_run(f"<main>{RUN}</main>", Run({"Model": "qaconv"}, {}, "Promoted.", {}))
    with pytest.raises(ValueError, match="one place for the run, got 0"):
        add_run(page, Run({}, {}, "Promoted.", {}))
