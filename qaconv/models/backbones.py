"""Build a backbone up to and including its last layer, which computes feature maps of images."""

from hashlib import sha256
from pathlib import Path

import torch
import torchvision
from torch import nn

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.ibn import to_ibn_a, to_ibn_b
from qaconv.models.weight_files import fill, read_tensors
from qaconv.plugins import find

# MobileNetV2 has no named layers. Each number counts torchvision's `features` up to the same stride.
MOBILENET_V2_BLOCKS = {"layer2": 7, "layer3": 14, "layer4": 19}  # to 32, 96, 1280 channels


def build_backbone(config: BackboneConfig, image: ImageConfig) -> nn.Module:
    """Build the registered backbone that `config` names, for images of one size. timm:NAME is looked up as timm.

    Returns:
        A module from images [B, 3, H, W] to maps of `config.last_layer`.

    Raises:
        InputError: the backbone is unknown or does not take such images, or its weights cannot be downloaded or read,
            or do not fit.
    """
    module: nn.Module = find("backbone", config.name.partition(":")[0])(config, image)
    return module


def build_torchvision(config: BackboneConfig, image: ImageConfig) -> nn.Module:
    """Build a ResNet, with or without IBN, or MobileNetV2, which take any size. Modules keep torchvision's names.

    Raises:
        InputError: the weights cannot be downloaded or read, or do not fit.
    """
    name, _, ibn = config.name.partition("_ibn_")
    imagenet = config.weights == "imagenet"
    if imagenet and ibn:
        raise InputError(
            f"backbone.weights must be none or a file of IBN-Net for {config.name}, got imagenet, which torchvision "
            "does not have"
        )
    try:
        network = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if imagenet else None)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"backbone.weights imagenet cannot be downloaded: {error}; a local file is allowed instead"
        ) from error
    if imagenet:
        _check_cached_file(name)
    if ibn:
        (to_ibn_a if ibn == "a" else to_ibn_b)(network)
    if config.weights not in ("none", "imagenet"):
        fill(network, read_tensors(Path(config.weights)), config.weights)
    trunk = _cut(network, config.last_layer)
    if config.last_stride == 1:
        _stop_striding(trunk)
    return trunk


def _cut(network: nn.Module, last_layer: str) -> nn.Sequential:
    """Keep the modules up to and including a layer."""
    if isinstance(network, torchvision.models.MobileNetV2):
        features: nn.Sequential = network.features[: MOBILENET_V2_BLOCKS[last_layer]]
        return features
    modules = nn.Sequential()
    for name, module in network.named_children():
        modules.add_module(name, module)
        if name == last_layer:
            break
    return modules


def _stop_striding(trunk: nn.Sequential) -> None:
    """Set the stride of the last layer to 1: of the strided convolutions in the last module that has any."""
    for module in reversed(trunk):
        strided = [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.stride == (2, 2)]
        for convolution in strided:
            convolution.stride = (1, 1)
        if strided:
            return


def _check_cached_file(name: str) -> None:
    """Check the file that torchvision has in its cache, of which it checks the digest only when it downloads it."""
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    digest = path.stem.rpartition("-")[2]
    if not sha256(path.read_bytes()).hexdigest().startswith(digest):
        raise InputError(f"{path}: must have a sha256 that begins with {digest}; delete it to download it again")
