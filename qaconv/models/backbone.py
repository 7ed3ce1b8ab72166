"""Images go in; L2-normalised feature maps come out.

B batch, C channels, H x W image size in pixels, h x w map size.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.config import BackboneConfig
from qaconv.errors import InputError

STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}

# MobileNetV2 has no layers by name: the blocks of the same stride, as many of torchvision's `features`.
MOBILENET_V2_BLOCKS = {"layer2": 7, "layer3": 14, "layer4": 18}  # to 32, 96, 320 channels

CLASSIFIERS = ("fc.", "classifier.")

# What torchvision's ImageNet weights were trained on, of RGB in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """A backbone cut after one of its layers, a 3x3 neck, and unit length over channels.

    Args:
        trunk: the backbone's modules in order, up to and with the last layer.
        channels_in: channels that the trunk puts out.
        channels: C, channels of the neck.
        pooled: average the map to one location first, so that h = w = 1 and matching is the cosine of two vectors.
        normalise: of the images, before the trunk.
    """

    def __init__(
        self, trunk: nn.Sequential, channels_in: int, channels: int, *, pooled: bool, normalise: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.normalise = normalise or nn.Identity()
        self.trunk = trunk
        self.neck = nn.Conv2d(channels_in, channels, kernel_size=3, padding=1)
        # A pooled vector is centred before its angle counts (BNNeck: Luo et al., CVPRW 2019).
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels)) if pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], RGB in [0, 1], to maps [B, C, h, w] of unit length over C."""
        maps = self.pool(self.neck(self.trunk(self.normalise(images))))
        return F.normalize(maps.float(), dim=1)


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


def build_encoder(config: BackboneConfig, *, pooled: bool = False) -> Encoder:
    """The encoder that `config` names, with its initial weights; unset ones come from torch's global generator.

    Raises:
        InputError: the weights cannot be fetched or read, or do not fit the backbone.
    """
    imagenet = config.weights == "imagenet"
    try:
        whole = torchvision.models.get_model(config.name, weights="IMAGENET1K_V1" if imagenet else None)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone.weights is imagenet, which cannot be fetched: {error}; legal is also a local file"
        ) from error
    if config.weights not in ("none", "imagenet"):
        _load_backbone(whole, Path(config.weights))
    trunk = _cut(whole, config.last_layer)
    with torch.no_grad():
        channels_in = trunk.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
    normalise = Normalise() if config.normalise == "imagenet" else None
    return Encoder(trunk.train(), channels_in, config.neck_channels, pooled=pooled, normalise=normalise)


def map_size(config: BackboneConfig, height: int, width: int, *, pooled: bool) -> tuple[int, int]:
    """(h, w) of the encoder's maps for images of H x W pixels."""
    stride = STRIDES[config.last_layer]
    return (1, 1) if pooled else (-(-height // stride), -(-width // stride))


def _cut(whole: nn.Module, last_layer: str) -> nn.Sequential:
    """The backbone's modules in order, up to and with the last layer, under their own names."""
    if isinstance(whole, torchvision.models.MobileNetV2):
        return whole.features[: MOBILENET_V2_BLOCKS[last_layer]]
    trunk = nn.Sequential()
    for name, module in whole.named_children():
        trunk.add_module(name, module)
        if name == last_layer:
            break
    return trunk


def _load_backbone(whole: nn.Module, path: Path) -> None:
    """Fills a torchvision network from a file of its own keys; the classifier may be absent, it is not used."""
    if not path.is_file():
        raise InputError(
            f"{path}: backbone.weights names no file; legal are none, imagenet, or a .safetensors/.pth file"
        )
    found = {name: value for name, value in _read_tensors(path).items() if not name.startswith(CLASSIFIERS)}
    wanted = {name: value for name, value in whole.state_dict().items() if not name.startswith(CLASSIFIERS)}
    counters = {name for name in wanted if name.endswith(".num_batches_tracked")}  # older PyTorch wrote none
    missing = sorted(wanted.keys() - found.keys() - counters)
    unknown = sorted(found.keys() - wanted.keys())
    misshapen = [
        f"{name}: {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    if missing or unknown or misshapen:
        raise InputError(
            f"{path}: does not fit the backbone: missing {missing[:10]} ({len(missing)}), "
            f"unknown {unknown[:10]} ({len(unknown)}), of another shape {misshapen[:10]} ({len(misshapen)})"
        )
    whole.load_state_dict(found, strict=False)


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as tensors alone; legal is a whole .safetensors file, "
            "or a .pth state dict with no other objects in it"
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: holds {type(loaded).__name__}; expected a state dict, tensors by name")
    return loaded
