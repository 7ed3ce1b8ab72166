"""Images go in; L2-normalised feature maps come out.

B batch, C channels, H x W image size in pixels, h x w map size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.config import BackboneConfig
from qaconv.models.backbones import build_backbone

# What torchvision's ImageNet weights were trained on, of RGB in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """A backbone cut after one of its layers, a neck, and unit length over channels.

    Args:
        normalise: of the images.
        trunk: the backbone, images to maps.
        neck: maps to maps of as many locations.
        channels: C, which the neck puts out.
        pooled: average the map to one location first, so that h = w = 1 and matching is the cosine of two vectors.
    """

    def __init__(self, normalise: nn.Module, trunk: nn.Module, neck: nn.Module, channels: int, *, pooled: bool) -> None:
        super().__init__()
        self.normalise, self.trunk, self.neck, self.channels = normalise, trunk, neck, channels
        # A pooled vector is centred before its angle counts (BNNeck: Luo et al., CVPRW 2019).
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels)) if pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], RGB in [0, 1], to maps [B, C, h, w] of unit length over C."""
        maps = self.pool(self.neck(self.trunk(self.normalise(images))))
        return F.normalize(maps.float(), dim=1)

    @torch.no_grad()
    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the maps of images of H x W pixels, found by encoding a black one; puts it in eval mode."""
        shape = self.eval()(torch.zeros(1, 3, height, width, device=next(self.parameters()).device)).shape
        return shape[2], shape[3]


def build_encoder(config: BackboneConfig, *, pooled: bool = False) -> Encoder:
    """The encoder that `config` names, with its initial weights; unset ones come from torch's global generator.

    Raises:
        InputError: the weights cannot be fetched or read, or do not fit the backbone.
    """
    trunk = build_backbone(config)
    with torch.no_grad():
        channels = trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    neck, channels = _build_neck(config, channels)
    normalise = Normalise() if config.normalise == "imagenet" else nn.Identity()
    return Encoder(normalise, trunk.train(), neck, channels, pooled=pooled)


def _build_neck(config: BackboneConfig, channels: int) -> tuple[nn.Module, int]:
    """The neck for so many channels, and how many it puts out."""
    if config.neck_channels == "none":
        return nn.Identity(), channels
    if config.neck == "bias":
        return nn.Conv2d(channels, config.neck_channels, kernel_size=3, padding=1), config.neck_channels
    convolution = nn.Conv2d(channels, config.neck_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(config.neck_channels)), config.neck_channels


class Normalise(nn.Module):
    """Images [B, 3, H, W] in [0, 1] to mean 0 and deviation 1, by ImageNet's figures."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
