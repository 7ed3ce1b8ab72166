"""Encode images as feature maps of unit length.

B batch, C channels, H x W image size in pixels, h x w map size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.camera_norms import CameraNorm2d, CameraNorms, list_norms
from qaconv.models.mirroring import average_mirrored, measure_shift

# Mean and standard deviation of RGB in [0, 1] that weights were trained with, as timm's data/constants.py has them.
NORMS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision, timm, DINOv2, DINOv3
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),  # OpenAI's, and EVA-02
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # SigLIP, and Google's ViTs
}


class Encoder(nn.Module):
    """Encode images by a backbone that is cut after one of its layers and by a neck, to unit length over channels.

    Args:
        normalise: module from images in [0, 1] to the images that the backbone was trained on.
        trunk: the backbone, from images to maps.
        neck: module from the backbone's maps to maps of C channels, with the same locations.
        channels: C.
        pooled: whether to average the map to one location, so that h = w = 1 and the score is a cosine.
        shift: eval mode encodes the mirrored image too, and averages its map, mirrored back and moved by so many
            locations, and the image's (qaconv/models/mirroring.py). It takes twice the time. Default: it does not.

    Attributes:
        camera_norms: what the batch norms of each camera change. None: those of all cameras are the same.
    """

    def __init__(
        self,
        normalise: nn.Module,
        trunk: nn.Module,
        neck: nn.Module,
        channels: int,
        *,
        pooled: bool,
        shift: int | None = None,
    ) -> None:
        super().__init__()
        self.shift = shift
        self.camera_norms: CameraNorms | None = None
        self.normalise, self.trunk, self.neck, self.channels = normalise, trunk, neck, channels
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), _build_bnneck(channels)) if pooled else nn.Identity()

    def normalise_cameras(self, norms: CameraNorms) -> None:
        """Give cameras batch norms of their own."""
        for norm in list_norms(self):
            norm.__class__ = CameraNorm2d
        self.camera_norms = norms

    def forward(self, images: Tensor, camids: Tensor | None = None, *, vectors: bool = False) -> Tensor:
        """Encode RGB images [B, 3, H, W] in [0, 1] as maps [B, C, h, w] of unit length over C.

        Args:
            images: the images.
            camids: camera of each image, [B], where cameras have batch norms of their own. Default: those of the
                network. A camera that has none has these, too.
            vectors: whether a pooled encoder returns what losses of vectors need, [B, 2, C]: each image's feature
                before and after the BNNeck, neither of unit length. Default: False.
        """
        shift = None if self.training else self.shift
        if shift is not None:  # one batch, so that an exported graph holds the network once
            images = torch.cat([images, images.flip(-1)])
            camids = None if camids is None else torch.cat([camids, camids])
        self._change_norms(camids)
        maps = self.neck(self.trunk(self.normalise(images)))
        if vectors:
            average, bnneck = self.pool.children()
            features = average(maps)
            return torch.stack([features, bnneck(features)], dim=1).flatten(2).float()
        units = F.normalize(self.pool(maps).float(), dim=1)
        if shift is not None:
            straight, reflected = units.unflatten(0, (2, -1)).unbind()
            units = average_mirrored(straight, reflected, shift)
        return units

    def _change_norms(self, camids: Tensor | None) -> None:
        if self.camera_norms is None:
            return
        norms = list_norms(self)
        sizes = [norm.num_features for norm in norms]
        changes = None if camids is None else [each.split(sizes, dim=1) for each in self.camera_norms(camids)]
        for number, norm in enumerate(norms):
            assert isinstance(norm, CameraNorm2d)
            norm.change = None if changes is None else (changes[0][number], changes[1][number])

    @torch.no_grad()
    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (h, w) of the maps of images of `height` x `width` pixels. Sets eval mode."""
        shape = self.eval()(torch.zeros(1, 3, height, width, device=next(self.parameters()).device)).shape
        return shape[2], shape[3]


def build_encoder(
    config: BackboneConfig, image: ImageConfig | None = None, *, pooled: bool = False, flip: bool = False
) -> Encoder:
    """Build the encoder of a configuration. Weights that are not loaded are drawn by torch's seed.

    Args:
        config: backbone, neck and weights.
        image: size of the images. A transformer takes images of this size alone. Default: 64 x 64 pixels.
        pooled: whether to average the map to one location. Default: False.
        flip: whether eval mode encodes the mirrored image too. Default: False.

    Raises:
        InputError: the backbone does not take such images, or the weights cannot be downloaded or read, or do not fit
            the backbone.

    Example:
        >>> from qaconv.config import BackboneConfig
        >>> from qaconv.models import build_encoder
        >>> config = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
        >>> build_encoder(config).map_size(64, 32)
        (8, 4)
    """
    from qaconv.models.backbones import build_backbone  # imports torchvision, which takes more than a second

    image = image or ImageConfig(height=64, width=64)
    trunk = build_backbone(config, image)
    with torch.no_grad():
        _, channels, height, _ = trunk.eval()(torch.zeros(1, 3, image.height, image.width)).shape
    if config.last_stride == 1 and height != -(-image.height // 16):
        raise InputError(f"backbone.last_stride must be 2 for {config.name}, which has no other, got 1")
    neck, channels = _build_neck(config, channels)
    normalise = nn.Identity() if config.normalise == "none" else Normalise(*NORMS[config.normalise])
    shift = None
    if flip:
        shift = 0 if pooled else measure_shift(trunk, image.height, image.width)
    return Encoder(normalise, trunk.train(), neck, channels, pooled=pooled, shift=shift)


def _build_bnneck(channels: int) -> nn.BatchNorm2d:
    """Build the norm that centres pooled features before they are scaled to unit length (Luo et al., CVPRW 2019)."""
    bnneck = nn.BatchNorm2d(channels)
    bnneck.bias.requires_grad_(False)
    return bnneck


def _build_neck(config: BackboneConfig, channels: int) -> tuple[nn.Module, int]:
    """Build the neck for a backbone of `channels` channels, and return the number of channels after it."""
    if config.neck_channels == "none":
        return nn.Identity(), channels
    if config.neck == "bias":
        return nn.Conv2d(channels, config.neck_channels, kernel_size=3, padding=1), config.neck_channels
    convolution = nn.Conv2d(channels, config.neck_channels, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(config.neck_channels)), config.neck_channels


class Normalise(nn.Module):
    """Normalise images [B, 3, H, W] in [0, 1] by the mean and standard deviation of each channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std
