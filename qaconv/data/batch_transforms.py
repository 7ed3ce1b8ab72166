"""Augment a whole batch of training images on a GPU, each image with its own random numbers.

B images, H x W pixels. The random numbers of an image are those that `qaconv/data/transforms.py` draws, in the same
order. Pixels differ only in the rounding of rotations and colours.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import rgb_to_grayscale
from torchvision.transforms.v2.functional._color import (
    _hsv_to_rgb,
    _rgb_to_hsv,
)  # the public functions take one factor for all images

from qaconv.data.transforms import ERASED_COLOUR, WhiteOcclusion

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # as ColorJitter numbers them
TO_BYTE = 256 - 1e-3  # torchvision's factor from a float in [0, 1] to a byte


class Variation(NamedTuple):
    """The random numbers of one image. The defaults change nothing."""

    top: float = 0  # offset of the crop, in pixels of the image
    left: float = 0
    flip: float = 0
    angle: float = 0  # degrees
    first: float = BRIGHTNESS  # the order of the colour changes
    second: float = CONTRAST
    third: float = SATURATION
    fourth: float = HUE
    brightness: float = 1
    contrast: float = 1
    saturation: float = 1
    hue: float = 0
    side: float = 0  # size of the white square, in pixels
    square_top: float = 0
    square_left: float = 0
    erased_height: float = 0  # size of the erased rectangle, in pixels
    erased_width: float = 0
    erased_top: float = 0
    erased_left: float = 0


ORDER = slice(Variation._fields.index("first"), Variation._fields.index("fourth") + 1)
STEPS = (
    v2.RandomCrop,
    v2.RandomHorizontalFlip,
    v2.RandomRotation,
    v2.ColorJitter,
    WhiteOcclusion,
    v2.RandomErasing,
    v2.Identity,
)
FACTORS = slice(Variation._fields.index("brightness"), Variation._fields.index("hue") + 1)


class BatchAugmentation:
    """Apply the steps of `build_augmentation` to a batch.

    Args:
        steps: result of `build_augmentation`.

    Raises:
        ValueError: a step is of an unknown kind.
    """

    def __init__(self, steps: v2.Compose) -> None:
        self._steps = list(steps.transforms)
        for step in self._steps:
            if not isinstance(step, STEPS):
                raise ValueError(f"a step must be one of {', '.join(kind.__name__ for kind in STEPS)}, got {step}")
        self._recolours = any(isinstance(step, v2.ColorJitter) for step in self._steps)

    def draw(self, image: Tensor) -> Tensor:
        """Draw a `Variation` for an image [3, H, W] from torch's generator, as float32 [19]."""
        drawn = Variation()
        for step in self._steps:
            match step:
                case v2.RandomCrop():
                    crop = step.make_params([image])
                    left, top, *_ = crop["padding"]
                    drawn = drawn._replace(top=crop["top"] - top, left=crop["left"] - left)
                case v2.RandomHorizontalFlip():
                    drawn = drawn._replace(flip=float(torch.rand(1) < step.p))
                case v2.RandomRotation():
                    drawn = drawn._replace(angle=step.make_params([image])["angle"])
                case v2.ColorJitter():
                    jitter = step.make_params([image])
                    factors = (jitter[f"{name}_factor"] for name in Variation._fields[FACTORS])
                    drawn = Variation(*drawn[: ORDER.start], *jitter["fn_idx"].tolist(), *factors)
                case WhiteOcclusion():
                    side, top, left = step.draw(*image.shape[-2:])
                    drawn = drawn._replace(side=side, square_top=top, square_left=left)
                case v2.RandomErasing() if torch.rand(1) < step.p:
                    erased = step.make_params([image])
                    if erased["v"] is not None:  # no rectangle that was drawn fits into the image
                        drawn = drawn._replace(
                            erased_height=erased["h"],
                            erased_width=erased["w"],
                            erased_top=erased["i"],
                            erased_left=erased["j"],
                        )
        return torch.tensor(drawn)

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Augment uint8 images [B, 3, H, W] on any device by random numbers `drawn` [B, 19] on the CPU."""
        on_device = Variation(*drawn.T[:, :, None, None].to(images.device, non_blocking=True))
        augmented = _move(images, on_device)
        if self._recolours:
            augmented = _recolour(augmented.float(), drawn, on_device)
        return _erase(_occlude(augmented, on_device).to(torch.uint8), on_device)


def _move(images: Tensor, drawn: Variation) -> Tensor:
    """Crop, flip and rotate: take the nearest source pixel, or black if it lies outside the image."""
    height, width = images.shape[-2:]
    across = torch.arange(width, device=images.device) - (width - 1) / 2
    down = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    angle = torch.deg2rad(torch.as_tensor(drawn.angle))
    cosine, sine = angle.cos(), angle.sin()
    column = (cosine * across - sine * down + (width - 1) / 2).round()
    row = (sine * across + cosine * down + (height - 1) / 2).round()
    turned_inside = _inside(row, column, height, width)
    column = torch.where(torch.as_tensor(drawn.flip) > 0, width - 1 - column, column) + drawn.left
    row = row + drawn.top
    inside = turned_inside & _inside(row, column, height, width)
    place = torch.where(inside, row * width + column, 0).long().flatten(1)[:, None].expand(-1, 3, -1)
    moved: Tensor = images.flatten(2).gather(2, place).unflatten(2, (height, width)) * inside[:, None]
    return moved


def _inside(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    return (row >= 0) & (row < height) & (column >= 0) & (column < width)


def _recolour(images: Tensor, drawn: Tensor, factors: Variation) -> Tensor:
    """Change the colours of float images in 0..255, in the order of each image. Each change rounds down."""
    order = drawn[:, ORDER]
    groups = [(order[:, turn] == change).nonzero().flatten() for turn in range(4) for change in range(4)]
    rows = torch.cat(groups).to(images.device, non_blocking=True).split([len(group) for group in groups])
    for group, chosen in enumerate(rows):
        if len(chosen):
            change = group % 4
            factor = torch.as_tensor(factors[FACTORS.start + change])[chosen][:, None]
            images[chosen] = _change_colour(images[chosen], change, factor)
    return images


def _change_colour(images: Tensor, change: int, factor: Tensor) -> Tensor:
    """Apply one colour change to float images [b, 3, H, W] in 0..255 by factors [b, 1, 1, 1]."""
    if change == HUE:
        hue, saturation, value = _rgb_to_hsv(images / 255).unbind(dim=-3)
        turned = (hue + factor[:, 0]).remainder(1.0)
        rgb: Tensor = _hsv_to_rgb(torch.stack((turned, saturation, value), dim=-3))
        return (rgb * TO_BYTE).floor()
    if change == BRIGHTNESS:
        return (images * factor).clamp(0, 255).floor()
    grey: Tensor = rgb_to_grayscale(images).floor()
    towards = grey.mean(dim=(1, 2, 3), keepdim=True) if change == CONTRAST else grey
    return (images * factor + towards * (1 - factor)).clamp(0, 255).floor()


def _occlude(images: Tensor, drawn: Variation) -> Tensor:
    """Draw the white squares."""
    square = _rectangle(images, drawn.square_top, drawn.square_left, drawn.side, drawn.side)
    return torch.where(square, 255, images)


def _erase(images: Tensor, drawn: Variation) -> Tensor:
    """Fill the erased rectangles with the mean colour."""
    erased = _rectangle(images, drawn.erased_top, drawn.erased_left, drawn.erased_height, drawn.erased_width)
    return torch.where(erased, images.new_tensor(ERASED_COLOUR)[:, None, None], images)


def _rectangle(
    images: Tensor, top: Tensor | float, left: Tensor | float, height: Tensor | float, width: Tensor | float
) -> Tensor:
    """Return a mask [B, 1, H, W] of a rectangle in each image."""
    row = torch.arange(images.shape[-2], device=images.device)[:, None]
    below, right = row - top, torch.arange(images.shape[-1], device=images.device) - left
    inside: Tensor = torch.as_tensor((below >= 0) & (below < height) & (right >= 0) & (right < width))
    return inside[:, None]
