"""Image files and their pixels: uint8 [H, W, 3], RGB."""

from qaconv.pixels.resizing import resize
from qaconv.pixels.unpacking import NoImage, size_of, unpack

__all__ = ["NoImage", "resize", "size_of", "unpack"]
