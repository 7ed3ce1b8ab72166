"""Batch norms with the statistics of each camera, so that cameras of other colours, contrast and noise look alike.

As camera-based batch normalisation (Zhuang et al., ECCV 2020, arXiv:2001.08680) has them, but of a trained network: the
statistics are those of a target's crops, and no label has a part in them.
B batch, K cameras, F features of all batch norms of an encoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn


class CameraNorms(nn.Module):
    """How each camera's statistics scale and shift what an encoder's batch norms return with their own.

    Args:
        cameras: K.
        features: F.

    Attributes:
        camids: the cameras, [K].
        scale: [K, F].
        shift: [K, F].
    """

    camids: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, cameras: int, features: int) -> None:
        super().__init__()
        self.register_buffer("camids", torch.zeros(cameras, dtype=torch.int64))
        self.register_buffer("scale", torch.ones(cameras, features))
        self.register_buffer("shift", torch.zeros(cameras, features))

    def forward(self, camids: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift for the camera of each image, [B, F] each; 1 and 0 for a camera without statistics."""
        known = (camids[:, None] == self.camids).to(self.scale.dtype)
        return 1 + known @ (self.scale - 1), known @ self.shift


class CameraNorm2d(nn.BatchNorm2d):
    """A batch norm whose output is scaled and shifted for each image.

    Attributes:
        change: scale and shift of each feature, [B, C] each. None: the output stays as it is.
    """

    change: tuple[Tensor, Tensor] | None = None

    def forward(self, maps: Tensor) -> Tensor:
        normed = super().forward(maps)
        if self.change is None:
            return normed
        scale, shift = (each[:, :, None, None] for each in self.change)
        return normed * scale + shift


def list_norms(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    """Return an encoder's batch norms, in the order of the F features."""
    norms = (module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    return [norm for norm in norms if type(norm) in (nn.BatchNorm2d, CameraNorm2d)]  # timm's subclass activates, too


@torch.no_grad()
def estimate_norms(encoder: nn.Module, batches: Mapping[int, Iterable[Tensor]]) -> CameraNorms:
    """Estimate the statistics of an encoder's batch norms on each camera.

    Args:
        encoder: in eval mode.
        batches: RGB images [B, 3, H, W] in [0, 1] by camera, on the encoder's device. Each batch counts as much.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from qaconv.models.camera_norms import estimate_norms
        >>> encoder = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
        >>> norms = estimate_norms(encoder, {4: [torch.rand(8, 3, 6, 6)], 5: [torch.rand(8, 3, 6, 6)]})
        >>> norms.camids.tolist(), tuple(norms.scale.shape)
        ([4, 5], (2, 2))
    """
    own = list_norms(encoder)
    norms = CameraNorms(len(batches), sum(norm.num_features for norm in own))
    for row, (camid, images) in enumerate(sorted(batches.items())):
        norms.camids[row] = camid
        changes = [_change(*pair) for pair in zip(own, _estimate(encoder, images), strict=True)]
        norms.scale[row], norms.shift[row] = (torch.cat(each) for each in zip(*changes, strict=True))
    return norms


def _estimate(encoder: nn.Module, batches: Iterable[Tensor]) -> Sequence[nn.BatchNorm2d]:
    """Return batch norms with the statistics of some images."""
    copy = deepcopy(encoder)
    norms = list_norms(copy)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
        norm.train()
    for images in batches:
        copy(images)
    return norms


def _change(own: nn.BatchNorm2d, other: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift, [C] each, that make of one norm's output that of the norm with the other's statistics."""
    mean, deviation = _statistics(own)
    other_mean, other_deviation = _statistics(other)
    scale = deviation / other_deviation
    return scale.cpu(), (own.bias * (1 - scale) + own.weight * (mean - other_mean) / other_deviation).cpu()


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation that a norm divides by, [C] each."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, (norm.running_var + norm.eps).sqrt()
