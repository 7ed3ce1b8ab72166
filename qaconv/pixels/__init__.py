"""Image files and their pixels: uint8 [H, W, 3], RGB."""

from qaconv.pixels.resizing import load_resizing, resize
from qaconv.pixels.unpacking import NoImage, size_of, unpack

__all__ = ["NoImage", "load_resizing", "resize", "size_of", "unpack"]
