"""Build timm's backbones: convolutional ones, and transformers of an image's patches."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError, missing_package
from qaconv.models.weight_files import fill, read_tensors

STRIDES = {"layer2": 8, "layer3": 16, "layer4": 32}


class TimmBackbone(nn.Module):
    """Compute the maps of a timm backbone's last block that has the last layer's stride.

    A transformer has the stride of its patches; patches of 14 pixels count as 16. Its class and register tokens are
    dropped, and the final norm is applied. The position embedding and the windows are made for the image's size, and
    those of a file of weights are interpolated by timm.

    Args:
        config: names the backbone as timm:NAME.
        image: size of the images that it takes.

    Raises:
        InputError: timm is not installed or does not have the backbone, it does not take such images or has no such
            layer, or its weights cannot be read or do not fit.
    """

    def __init__(self, config: BackboneConfig, image: ImageConfig) -> None:
        super().__init__()
        try:
            import timm  # an extra
        except ImportError as error:
            raise InputError(f"backbone.name {config.name}: {missing_package('timm')}") from error
        name = config.name.removeprefix("timm:")
        options: dict[str, Any] = {}
        try:
            known = timm.models.get_pretrained_cfg(name)
            if known and known.fixed_input_size:
                options["img_size"] = (image.height, image.width)
            if config.last_stride == 1:  # timm dilates layer4's convolutions in return
                options["output_stride"] = STRIDES["layer3"]
            model: Any = timm.create_model(name, pretrained=config.weights == "imagenet", **options)
        except (RuntimeError, OSError, SafetensorError) as error:
            raise InputError(f"backbone.name {config.name} with weights {config.weights}: {error}") from error
        except TypeError as error:
            raise InputError(f"backbone.name {config.name} does not take {options}: {error}") from error
        _require_whole_patches(model, config, image)
        index = _find_block(model, config)
        if config.weights not in ("none", "imagenet"):
            _fill(model, Path(config.weights))
        self.features: Any = model
        self.norm = index == len(model.feature_info) - 1
        self.indices = model.prune_intermediate_layers([index], prune_norm=not self.norm, prune_head=True)
        for classifier in _classifiers(model):
            setattr(model, classifier, nn.Identity())
        try:
            with torch.no_grad():
                self.eval()(torch.zeros(1, 3, image.height, image.width))
        except (AssertionError, RuntimeError) as error:
            raise InputError(
                f"backbone.name {config.name} does not take images of {image.height} x {image.width}: {error}"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """Compute the maps [B, C, h, w] of images [B, 3, H, W]."""
        maps: Tensor
        (maps,) = self.features.forward_intermediates(
            images, indices=self.indices, norm=self.norm, intermediates_only=True
        )
        return maps


def _require_whole_patches(model: Any, config: BackboneConfig, image: ImageConfig) -> None:
    """Check that patches tile the image, as timm would otherwise leave out its edge.

    Raises:
        InputError: they do not.
    """
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", 1)
    rows, columns = patch if isinstance(patch, tuple) else (patch, patch)
    if image.height % rows or image.width % columns:
        sizes = [max(1, round(side / patch)) * patch for side, patch in ((image.height, rows), (image.width, columns))]
        raise InputError(
            f"image: height and width must be multiples of {rows} and {columns}, the patches of {config.name}, got "
            f"{image.height} x {image.width}; the nearest are {sizes[0]} x {sizes[1]}"
        )


def _find_block(model: Any, config: BackboneConfig) -> int:
    """Return the index of the last block with the stride that `config` asks for.

    Raises:
        InputError: there is none.
    """
    if not hasattr(model, "prune_intermediate_layers"):
        raise InputError(f"backbone.name {config.name}: timm gives none of its maps; choose another backbone")
    strides = [1 << (info["reduction"] - 1).bit_length() for info in model.feature_info]  # 14 counts as 16
    stride = STRIDES["layer3" if config.last_stride == 1 else config.last_layer]
    if stride not in strides:
        layers = [layer for layer, number in STRIDES.items() if number in strides]
        raise InputError(
            f"backbone.last_layer must be {' or '.join(layers)} for {config.name}, got {config.last_layer}"
        )
    return len(strides) - 1 - strides[::-1].index(stride)


def _fill(model: Any, path: Path) -> None:
    """Fill a timm model from a file of its weights, or of its authors', which timm renames and interpolates.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    from timm.models import load_state_dict

    def read(file: Path) -> Any:
        try:
            return load_state_dict(str(file), weights_only=True)
        except AttributeError as error:  # of what is no dictionary
            raise InputError(f"{file}: must hold a state dict, tensors by name") from error

    tensors = read_tensors(path, read)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert:
        try:
            tensors = convert(dict(tensors), model)
        except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, ValueError) as error:
            raise InputError(f"{path}: does not fit the backbone: {error}") from error
    whole = set(model.state_dict())
    model.reset_classifier(0, "")
    unused = whole - set(model.state_dict())  # such as the attention that SigLIP pools by
    fill(model, tensors, path, unused=(*unused, *(f"{name}." for name in _classifiers(model))))


def _classifiers(model: Any) -> set[str]:
    """Return the names of the modules that only classify."""
    classifier = model.pretrained_cfg.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else classifier
    return {name.partition(".")[0] for name in names}
