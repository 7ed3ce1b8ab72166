"""Average the maps of an image and of its mirror image where both show the same place.

A location of a strided convolution is not centred: with a kernel of 3, a stride of 2 and a padding of 1 the outputs lie
at every second pixel from the first one on, and mirrored back at every second one from the second on. Over all layers
of a ResNet this grows to a whole location less one pixel. So mirrored maps are moved by whole locations before they are
averaged. Without that an average loses more than it gains (docs/recipes.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def measure_shift(trunk: nn.Module, height: int, width: int) -> int:
    """Return how many locations the map of a mirrored image, mirrored back, must move to the right.

    It is 1 for ResNets and MobileNetV2, and 0 for backbones whose strides are as large as their kernels.

    Args:
        trunk: module from images [B, 3, H, W] to maps. It is put in eval mode. Padding by functions is not seen.
        height: H.
        width: W.
    """
    with _watching(trunk, width) as offsets, torch.no_grad():
        locations: int = trunk.eval()(torch.zeros(1, 3, height, width)).shape[-1]
    return round(-2 * sum(map(fmean, offsets.values())) / round(width / locations))


def average_mirrored(maps: Tensor, mirrored: Tensor, shift: int) -> Tensor:
    """Average maps [B, C, h, w] with those of the mirrored images, to unit length over C.

    Args:
        maps: of unit length.
        mirrored: maps of the mirrored images, of unit length, not mirrored back.
        shift: by how many locations they are moved to the right, once mirrored back. Where none is left to average
            with, at the edge, the image's own map stays.
    """
    width = maps.shape[-1]
    back = mirrored.flip(-1)
    if shift > 0:
        back = torch.cat([maps[..., :shift], back[..., : width - shift]], dim=-1)
    elif shift < 0:
        back = torch.cat([back[..., -shift:], maps[..., width + shift :]], dim=-1)
    return F.normalize(maps + back, dim=1)


@contextmanager
def _watching(trunk: nn.Module, pixels: int) -> Iterator[dict[int, list[float]]]:
    """Yield how far each strided layer moves the centre of its output, in pixels of the image, by its input's width.

    Layers with inputs of the same width are branches, whose mean counts.
    """
    offsets: dict[int, list[float]] = {}

    def watch(layer: Any, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        kernel, stride, padding, dilation = (
            _of_width(getattr(layer, name, 1)) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        width = inputs[0].shape[-1]
        if stride > 1:
            moved = ((kernel - 1) * dilation + 1 - stride - 2 * padding) / 2
            offsets.setdefault(width, []).append(moved * round(pixels / width))

    strided = [module for module in trunk.modules() if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)]
    hooks = [module.register_forward_hook(watch) for module in strided]
    try:
        yield offsets
    finally:
        for hook in hooks:
            hook.remove()


def _of_width(setting: Any) -> int:
    return int(setting[1] if isinstance(setting, tuple) else setting)
