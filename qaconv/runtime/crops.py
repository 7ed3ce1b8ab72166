"""Read crops for the encoder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.runtime.decode import DecodeError, decode_image
from qaconv.runtime.resize import resize


def read_crop(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Decode and resize an image file to RGB [height, width, 3], as for training.

    The size is read from the file's head and checked before any pixel is decoded.

    Raises:
        InputError: the file is damaged, too large, or of another format than `decode.FORMATS`.
    """
    try:
        return resize(decode_image(data), height, width)
    except DecodeError as error:
        raise InputError(f"image: {error}") from error


def read_crop_file(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Decode and resize a file to RGB [height, width, 3], as for training.

    Raises:
        InputError: the file cannot be read or decoded; the message names it.
    """
    try:
        return resize(decode_image(path.read_bytes()), height, width)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise InputError(f"{path}: {error}") from error
