"""Build a backbone up to and including its last layer, which computes feature maps of images."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from qaconv.config import BackboneConfig
from qaconv.errors import InputError, missing_package
from qaconv.models.ibn import to_ibn_a, to_ibn_b
from qaconv.plugins import find

STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}

# MobileNetV2 has no named layers. Each number counts torchvision's `features` up to the same stride.
MOBILENET_V2_BLOCKS = {"layer2": 7, "layer3": 14, "layer4": 18}  # to 32, 96, 320 channels

CLASSIFIERS = ("fc.", "classifier.", "head.")


def build_backbone(config: BackboneConfig) -> nn.Module:
    """Build the registered backbone that `config` names. A name such as timm:NAME is looked up as timm.

    Returns:
        A module from images [B, 3, H, W] to maps of `config.last_layer`.

    Raises:
        InputError: the backbone is unknown, or its weights cannot be downloaded or read, or do not fit.
    """
    module: nn.Module = find("backbone", config.name.partition(":")[0])(config)
    return module


def build_torchvision(config: BackboneConfig) -> nn.Module:
    """Build a ResNet, with or without IBN, or MobileNetV2; modules keep torchvision's names.

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
        _load(network, Path(config.weights))
    trunk = _cut(network, config.last_layer)
    if config.last_stride == 1:
        _stop_striding(trunk)
    return trunk


class TimmBackbone(nn.Module):
    """Compute the features of a timm backbone that have the last layer's stride.

    Raises:
        InputError: timm is not installed or does not have the backbone, or its weights cannot be read or do not fit.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        try:
            import timm  # an extra
        except ImportError as error:
            raise InputError(f"backbone.name {config.name}: {missing_package('timm')}") from error
        name = config.name.removeprefix("timm:")
        stride = STRIDES[config.last_layer] * config.last_stride // 2
        # timm dilates layer4's convolutions in return
        options: dict[str, Any] = {"output_stride": stride} if config.last_stride == 1 else {}
        file = None
        if config.weights not in ("none", "imagenet"):
            path = _require_file(Path(config.weights))
            if path.suffix != ".safetensors":
                raise InputError(f"{path}: backbone.weights of a timm backbone must be a .safetensors file")
            file = {"file": str(path)}
        try:
            if file:  # timm itself ignores missing weights
                _load(timm.create_model(name), path)
            full: Any = timm.create_model(name, features_only=True, **options)
            strides = list(full.feature_info.reduction())
            if stride not in strides:
                raise InputError(
                    f"backbone.last_layer {config.last_layer} has stride {stride}, allowed for {config.name}: {strides}"
                )
            index = len(strides) - 1 - strides[::-1].index(stride)
            self.features = timm.create_model(
                name,
                pretrained=config.weights != "none",
                pretrained_cfg_overlay=file,
                features_only=True,
                out_indices=(index,),
                **options,
            )
        except (RuntimeError, OSError, SafetensorError) as error:
            raise InputError(f"backbone.name {config.name} with weights {config.weights}: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        """Compute the maps of images [B, 3, H, W]."""
        maps: Tensor
        (maps,) = self.features(images)
        return maps


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


def _load(network: nn.Module, path: Path) -> None:
    """Fill a network from a file with the same keys. The classifier may be missing, as it is not used."""
    tensors = _read_tensors(_require_file(path))
    used = {name: value for name, value in tensors.items() if not name.startswith(CLASSIFIERS)}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith(CLASSIFIERS)}
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}  # older PyTorch had none
    missing = sorted(expected.keys() - used.keys() - counters)
    unknown = sorted(used.keys() - expected.keys())
    misshapen = [
        f"{name}: must be {tuple(expected[name].shape)}, got {tuple(used[name].shape)}"
        for name in sorted(expected.keys() & used.keys())
        if used[name].shape != expected[name].shape
    ]
    if missing or unknown or misshapen:
        raise InputError(
            f"{path}: does not fit the backbone: missing {missing[:10]} ({len(missing)}), "
            f"unknown {unknown[:10]} ({len(unknown)}), with another shape {misshapen[:10]} ({len(misshapen)})"
        )
    network.load_state_dict(used, strict=False)


def _check_cached_file(name: str) -> None:
    """Check the file that torchvision has in its cache, of which it checks the digest only when it downloads it."""
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    digest = path.stem.rpartition("-")[2]
    if not sha256(path.read_bytes()).hexdigest().startswith(digest):
        raise InputError(f"{path}: must have a sha256 that begins with {digest}; delete it to download it again")


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise InputError(
            f"backbone.weights must be none, imagenet or an existing .safetensors or .pth file, got {path}"
        )
    return path


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read: must be a .safetensors file, or a .pth state dict that holds nothing but tensors"
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: must hold a state dict, tensors by name, got {type(loaded).__name__}")
    return loaded
