"""A backbone's name, its last layer and weights go in; its modules up to that layer come out, images to raw maps."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from qaconv.config import BackboneConfig
from qaconv.errors import InputError
from qaconv.models.ibn import to_ibn_a, to_ibn_b

STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}

# MobileNetV2 has no layers by name: the blocks of the same stride, as many of torchvision's `features`.
MOBILENET_V2_BLOCKS = {"layer2": 7, "layer3": 14, "layer4": 18}  # to 32, 96, 320 channels

CLASSIFIERS = ("fc.", "classifier.", "head.")


def build_trunk(config: BackboneConfig) -> nn.Module:
    """The backbone's modules up to and with the last layer, under their own names.

    Raises:
        InputError: the weights cannot be fetched or read, or do not fit; timm lacks the backbone, or is not installed.
    """
    if config.name.startswith("timm:"):
        return TimmTrunk(config)
    name, _, ibn = config.name.partition("_ibn_")
    imagenet = config.weights == "imagenet"
    if imagenet and ibn:
        raise InputError(
            f"backbone.weights is imagenet, which torchvision has not for {config.name}; legal are none, or a file of "
            "IBN-Net's own"
        )
    try:
        whole = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if imagenet else None)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(error) from error
    if ibn:
        (to_ibn_a if ibn == "a" else to_ibn_b)(whole)
    if config.weights not in ("none", "imagenet"):
        _load(whole, Path(config.weights))
    return _cut(whole, config.last_layer)


class TimmTrunk(nn.Module):
    """A backbone of timm up to the features of the last layer's stride."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        try:
            import timm  # an extra: seldom needed
        except ImportError as error:
            raise InputError(f"backbone.name is {config.name}, and timm is not installed: pip install timm") from error
        name, stride = config.name.removeprefix("timm:"), STRIDES[config.last_layer]
        file = None
        if config.weights not in ("none", "imagenet"):
            path = _existing(Path(config.weights))
            if path.suffix != ".safetensors":
                raise InputError(f"{path}: backbone.weights for a timm backbone; legal is a .safetensors file")
            file = {"file": str(path)}
        try:
            if file:  # timm itself passes over what is missing
                _load(timm.create_model(name), path)
            probe: Any = timm.create_model(name, features_only=True)
            strides = list(probe.feature_info.reduction())
            if stride not in strides:
                raise InputError(
                    f"backbone.last_layer is {config.last_layer}, stride {stride}; {config.name} has strides {strides}"
                )
            place = len(strides) - 1 - strides[::-1].index(stride)
            self.features = timm.create_model(
                name,
                pretrained=config.weights != "none",
                pretrained_cfg_overlay=file,
                features_only=True,
                out_indices=(place,),
            )
        except (RuntimeError, OSError, SafetensorError) as error:
            raise InputError(f"backbone.name {config.name} with weights {config.weights}: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        (maps,) = self.features(images)
        return maps


def _cut(whole: nn.Module, last_layer: str) -> nn.Sequential:
    if isinstance(whole, torchvision.models.MobileNetV2):
        return whole.features[: MOBILENET_V2_BLOCKS[last_layer]]
    trunk = nn.Sequential()
    for name, module in whole.named_children():
        trunk.add_module(name, module)
        if name == last_layer:
            break
    return trunk


def _load(whole: nn.Module, path: Path) -> None:
    """Fills a torchvision network from a file of its own keys; the classifier may be absent, it is not used."""
    found = {name: value for name, value in _read_tensors(_existing(path)).items() if not name.startswith(CLASSIFIERS)}
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


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(
            f"{path}: backbone.weights names no file; legal are none, imagenet, or a .safetensors/.pth file"
        )
    return path


def _not_fetched(error: Exception) -> InputError:
    return InputError(f"backbone.weights is imagenet, which cannot be fetched: {error}; legal is also a local file")


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
