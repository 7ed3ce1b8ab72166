"""Convert the pixels of each mode that Pillow reads to 8-bit RGB."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BACKGROUND = 128  # behind transparent pixels: mid-grey, as an edge of white or black would outweigh the person
OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV")
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(picture: Image.Image, *, largest: int = 65535) -> NDArray[np.uint8]:
    """Convert a picture to RGB [H, W, 3].

    16-bit grey is scaled to 8 bits and rounded. Transparent pixels are composited on `BACKGROUND`.

    Args:
        picture: a loaded picture, of any mode.
        largest: value that is white, of the modes of 16-bit grey. Default: 65535.

    Raises:
        ValueError: the mode has no defined range of values (I, F), or Pillow cannot convert it (LAB).
    """
    if picture.mode in GREY_16:
        return _scale_grey(picture, largest)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.mode in WITH_ALPHA or (picture.mode in OPAQUE and picture.has_transparency_data):
        rgba = np.asarray(picture.convert("RGBA"))
        return composite(rgba[..., :3], rgba[..., 3])
    if picture.mode in OPAQUE:
        return np.asarray(picture.convert("RGB"))
    raise ValueError(
        f"has pixels of mode {picture.mode}, whose conversion to 8 bits is not defined; save it as 8-bit RGB or grey"
    )


def composite(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite RGB [H, W, 3] with alpha [H, W] on `BACKGROUND`, rounded to the nearest value."""
    weight = alpha[..., None].astype(np.uint16)
    blended = rgb * weight + BACKGROUND * (255 - weight) + 127
    return (blended // 255).astype(np.uint8)


def _scale_grey(picture: Image.Image, largest: int) -> NDArray[np.uint8]:
    values = np.asarray(picture).astype(np.uint32)
    scaled = (np.minimum(values, largest) * 255 + largest // 2) // largest
    rgb = np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=2)
    transparent = picture.info.get("transparency")
    if transparent is None:
        return rgb
    return composite(rgb, np.where(values == transparent, 0, 255).astype(np.uint8))
