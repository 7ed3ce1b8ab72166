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


class Encoder(nn.Module):
    """A ResNet cut after one of its layers, a 3x3 neck, and unit length over channels.

    Args:
        trunk: the backbone's modules in order, up to and with the last layer.
        channels_in: channels that the trunk puts out.
        channels: C, channels of the neck.
        pooled: average the map to one location first, so that h = w = 1 and matching is the cosine of two vectors.
    """

    def __init__(self, trunk: nn.Sequential, channels_in: int, channels: int, *, pooled: bool) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = nn.Conv2d(channels_in, channels, kernel_size=3, padding=1)
        # A pooled vector is centred before its angle counts (BNNeck: Luo et al., CVPRW 2019).
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels)) if pooled else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], RGB in [0, 1], to maps [B, C, h, w] of unit length over C."""
        maps = self.pool(self.neck(self.trunk(images)))
        return F.normalize(maps.float(), dim=1)


def build_encoder(config: BackboneConfig, *, pooled: bool = False) -> Encoder:
    """The encoder that `config` names, with its initial weights; unset ones come from torch's global generator.

    Raises:
        InputError: the weights cannot be fetched or read, or do not fit the backbone.
    """
    imagenet = config.weights == "imagenet"
    try:
        resnet = torchvision.models.get_model(config.name, weights="IMAGENET1K_V1" if imagenet else None)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone.weights is imagenet, which cannot be fetched: {error}; legal is also a local file"
        ) from error
    if config.weights not in ("none", "imagenet"):
        _load_backbone(resnet, Path(config.weights))
    names = [name for name, _ in resnet.named_children()]
    kept = names[: names.index(config.last_layer) + 1]
    trunk = nn.Sequential()
    for name in kept:
        trunk.add_module(name, resnet.get_submodule(name))
    with torch.no_grad():
        channels_in = trunk.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
    return Encoder(trunk.train(), channels_in, config.neck_channels, pooled=pooled)


def map_size(config: BackboneConfig, height: int, width: int, *, pooled: bool) -> tuple[int, int]:
    """(h, w) of the encoder's maps for images of H x W pixels."""
    stride = STRIDES[config.last_layer]
    return (1, 1) if pooled else (-(-height // stride), -(-width // stride))


def _load_backbone(resnet: nn.Module, path: Path) -> None:
    """Fills a torchvision ResNet from a file of its own keys; the classifier may be absent, it is not used."""
    if not path.is_file():
        raise InputError(
            f"{path}: backbone.weights names no file; legal are none, imagenet, or a .safetensors/.pth file"
        )
    found = {name: value for name, value in _read_tensors(path).items() if not name.startswith("fc.")}
    wanted = {name: value for name, value in resnet.state_dict().items() if not name.startswith("fc.")}
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
    resnet.load_state_dict(found, strict=False)


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
