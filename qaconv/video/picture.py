"""Cut boxes from a decoded frame without converting the whole frame to RGB."""

from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

PLANES = ("yuv420p", "yuvj420p")  # one byte for each value, colour in half the resolution: what most videos have


class Box(NamedTuple):
    """Edges of a box in whole pixels; right and bottom are the first pixels outside."""

    left: int
    top: int
    right: int
    bottom: int


class Picture:
    """A frame's planes of brightness and colour."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame if frame.format.name in PLANES else frame.reformat(format=PLANES[0])
        self.width = frame.width
        self.height = frame.height
        planes: tuple[Any, ...] = self._frame.planes  # buffers, which the stubs do not say
        self._planes: list[NDArray[np.uint8]] = [
            np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in planes
        ]

    def brightness(self, box: Box) -> NDArray[np.uint8]:
        """Return the brightness in a box, [h, w]; a view that is valid as long as the picture."""
        return self._planes[0][box.top : box.bottom, box.left : box.right]

    def cut(self, box: Box) -> av.VideoFrame:
        """Copy a box, whose left and top edges are rounded down to even pixels, where a value of colour begins."""
        left = box.left // 2 * 2
        top = box.top // 2 * 2
        crop = av.VideoFrame(box.right - left, box.bottom - top, self._frame.format.name)
        crop.colorspace = self._frame.colorspace
        crop.color_range = self._frame.color_range
        for source, plane, step in zip(self._planes, crop.planes, (1, 2, 2), strict=True):
            rows = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
            y = top // step
            x = left // step
            rows[:, : plane.width] = source[y : y + plane.height, x : x + plane.width]
            plane.update(rows.tobytes())
        return crop
