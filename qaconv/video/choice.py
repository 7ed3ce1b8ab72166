"""Choose the boxes that become crops: whole people of some size, sharp ones, and a few of each track."""

from collections.abc import Callable
from math import sqrt
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from qaconv.video.picture import Box
from qaconv.video.settings import CropSettings

Crop = TypeVar("Crop")

EDGE = 1.0  # pixels from the picture's edge within which a box is taken for cut off, as detectors end boxes there
LOOKS = 5  # frames of each spacing in which a track's sharpness is measured; neighbouring frames are much alike


def find_faults(
    boxes: NDArray[np.float64], width: int, height: int, settings: CropSettings
) -> dict[str, NDArray[np.bool_]]:
    """Return which boxes of one frame break which rule.

    Args:
        boxes: left, top, width and height of every box of the frame in pixels, [N, 4].
        width: of the picture.
        height: of the picture.
        settings: the rules.

    Returns:
        Mask [N] of each rule: too small, cut off by the picture's edge, overlapped by another box. A box may break
        several.
    """
    left, top, wide, high = boxes.T
    right = left + wide
    bottom = top + high
    across = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    down = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    shared = np.clip(across, 0, None) * np.clip(down, 0, None) / (wide * high)[:, None]
    np.fill_diagonal(shared, 0)
    return {
        "too small": high < settings.min_height,
        "cut off": (left <= EDGE) | (top <= EDGE) | (right >= width - EDGE) | (bottom >= height - EDGE),
        "overlapped": shared.max(axis=1, initial=0) > settings.max_overlap,
    }


def round_box(box: NDArray[np.float64]) -> Box:
    """Return the whole pixels that a box [4] of left, top, width and height covers at least in part."""
    left, top, wide, high = box
    return Box(int(left), int(top), int(np.ceil(left + wide)), int(np.ceil(top + high)))


def measure_quality(brightness: NDArray[np.uint8]) -> float:
    """Return the height in pixels times the sharpness: the Laplacian's square mean over the brightness's variance."""
    levels = brightness.astype(np.int16)
    laplacian = 4 * levels[1:-1, 1:-1] - levels[:-2, 1:-1] - levels[2:, 1:-1] - levels[1:-1, :-2] - levels[1:-1, 2:]
    contrast = float(np.square(levels - int(levels.mean()), dtype=np.int32).mean())
    sharpness = float(np.square(laplacian, dtype=np.int32).mean()) / contrast if contrast else 0.0
    return len(brightness) * sqrt(sharpness)


class TrackChooser(Generic[Crop]):
    """Choose the crops of one track while its boxes arrive in the order of time.

    Of each `spacing_s`, the box of the highest quality is kept; the next `spacing_s` begins that long after it. When
    more than `most` are kept, every second one is dropped and the spacing doubles, so that the crops of a long track
    are spread over it. Only one crop waits in memory.

    Args:
        settings: the rules.
    """

    def __init__(self, settings: CropSettings) -> None:
        self._most = settings.most
        self._spacing_s = settings.spacing_s
        self._opens_s = -np.inf
        self._next_look_s = -np.inf
        self._best: tuple[float, float, Crop] | None = None  # quality, time, crop

    def looks_at(self, time_s: float) -> bool:
        """Return whether a box at this time is compared. Call `finish_spacing` before."""
        return time_s >= max(self._opens_s, self._next_look_s)

    def offer(self, time_s: float, quality: float, cut: Callable[[], Crop]) -> None:
        """Take a box if it is the best of its spacing so far.

        Args:
            time_s: of its frame.
            quality: of the box; higher is better.
            cut: function that copies the crop, called only if it is taken.
        """
        self._next_look_s = time_s + self._spacing_s / LOOKS
        if self._best is None:
            self._opens_s = time_s
        if self._best is None or quality > self._best[0]:
            self._best = (quality, time_s, cut())

    def finish_spacing(self, time_s: float) -> Crop | None:
        """Return the best crop of the spacing that has ended by this time, or None; infinity ends the track."""
        if self._best is None or time_s < self._opens_s + self._spacing_s:
            return None
        _, best_s, crop = self._best
        self._best = None
        self._opens_s = best_s + self._spacing_s
        return crop

    def thin_out(self, kept: list[Crop]) -> list[Crop]:
        """Return the kept crops that must be dropped, as there are too many."""
        if len(kept) <= self._most:
            return []
        self._spacing_s *= 2
        return kept[1::2]
