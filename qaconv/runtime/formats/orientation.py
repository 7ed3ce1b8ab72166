"""Turn images upright by the orientation in their EXIF data (CIPA DC-008, tag 274)."""

import numpy as np
from numpy.typing import NDArray

TAG = 274
SIZES = {1: 1, 3: 2, 4: 4}  # bytes of a value, by EXIF's type: BYTE, SHORT, LONG


def read_orientation(exif: bytes) -> int:
    """Return the orientation, 1..8, that EXIF data states.

    Data that is malformed or states none gives 1, upright: cameras write such data into files whose pixels are whole.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    if exif[:2] not in (b"II", b"MM"):
        return 1
    directory = _number(exif, 4, 4)
    end = min(directory + 2 + 12 * _number(exif, directory, 2), len(exif) - 11)
    for entry in range(directory + 2, end, 12):
        if _number(exif, entry, 2) == TAG:
            size = SIZES.get(_number(exif, entry + 2, 2), 2)
            orientation = _number(exif, entry + 8, size)
            return orientation if 1 <= orientation <= 8 else 1
    return 1


def turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn or mirror pixels [H, W, 3] that are stored in an orientation, 1..8; 5..8 swap height and width."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _number(exif: bytes, position: int, size: int) -> int:
    return int.from_bytes(exif[position : position + size], "little" if exif[:1] == b"I" else "big")
