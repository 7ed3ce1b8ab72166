"""The look of an image survives another encoding and size, and differs between images."""

from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from qaconv.data import fingerprints
from qaconv.data.fingerprints import BITS, LARGEST_DIFFERENCE, MIRROR, compute_look, find_alike
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


@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 62), max_size=5), st.booleans()), max_size=12))
def test_pairs_that_look_the_same_are_those_of_comparing_every_pair(images: list[tuple[int, set[int], bool]]) -> None:
    bases = np.random.default_rng(0).integers(0, 2**63, 3, dtype=np.uint64)
    some = [
        np.uint64(bases[base] ^ BITS[list(bits)].sum() ^ (MIRROR if mirrored else np.uint64(0)))
        for base, bits, mirrored in images
    ]
    left, right = np.array(some[::2], np.uint64), np.array(some[1::2], np.uint64)
    difference = left[:, None] ^ right
    alike = np.bitwise_count(difference) <= LARGEST_DIFFERENCE
    alike |= np.bitwise_count(difference ^ MIRROR) <= LARGEST_DIFFERENCE
    np.testing.assert_array_equal(find_alike(left, right), np.argwhere(alike))


@pytest.mark.parametrize("first", [0, 29, 57])
def test_looks_are_alike_whichever_four_bits_differ(first: int) -> None:
    base = np.uint64(0x5A5A5A5A5A5A5A5A)
    six = BITS[first : first + 6]
    changes = np.array([six[np.array(chosen)].sum() for chosen in product([False, True], repeat=6)])
    alike = np.flatnonzero(np.bitwise_count(changes) <= 4)
    for right in (base, base ^ MIRROR):
        assert find_alike(base ^ changes, np.array([right])).tolist() == [[row, 0] for row in alike]


def test_candidates_of_several_blocks_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "PAIRS_AT_ONCE", 3)
    same = np.full(4, 5, np.uint64)
    assert find_alike(same, same).tolist() == [[row, column] for row in range(4) for column in range(4)]
