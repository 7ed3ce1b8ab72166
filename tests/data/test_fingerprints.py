"""The look of an image survives another encoding and size, and differs between images."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qaconv.data.fingerprints import compute_look, find_alike
from qaconv.runtime.decode import decode_image


@pytest.fixture(scope="module")
def crops(site_folder: Path) -> list[NDArray[np.uint8]]:
    return [decode_image(path.read_bytes()) for path in sorted(site_folder.rglob("*.jpg"))[:60]]


def looks(crops: list[NDArray[np.uint8]]) -> NDArray[np.uint64]:
    return np.array([compute_look(crop) for crop in crops], np.uint64)


def store_again(crop: NDArray[np.uint8], change: str) -> NDArray[np.uint8]:
    height, width = crop.shape[:2]
    picture = Image.fromarray(crop)
    if change == "mirrored":
        return crop[:, ::-1]
    if change == "jpeg":
        file = BytesIO()
        picture.save(file, "JPEG", quality=50)
        return decode_image(file.getvalue())
    factor = {"half": 0.5, "double": 2, "wide": 1.5}[change]
    return np.asarray(picture.resize((round(width * factor), height if change == "wide" else round(height * factor))))


@pytest.mark.parametrize("change", ["mirrored", "jpeg", "half", "double", "wide"])
def test_each_crop_is_found_again_after_a_change_and_no_other_is(change: str, crops: list[NDArray[np.uint8]]) -> None:
    changed = [store_again(crop, change) for crop in crops]
    pairs = find_alike(looks(crops), looks(changed))
    assert pairs.tolist() == [[row, row] for row in range(len(crops))]


def test_no_images_are_alike_none() -> None:
    nothing = np.zeros(0, np.uint64)
    assert (
        find_alike(nothing, np.ones(3, np.uint64)).shape == find_alike(np.ones(3, np.uint64), nothing).shape == (0, 2)
    )
