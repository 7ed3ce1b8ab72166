"""Load a checkpoint of the authors' releases as a network of this project.

A file of the authors holds the encoder under `model` (a whole ResNet as `base`, which is cut when it runs) and the head
under `criterion`, inside the loss. The releases differ in these points:

| release | neck | head | key of the head | state of its training |
|---|---|---|---|---|
| v1.0 | batchnorm | v1 | criterion | class memory |
| v1.1 | batchnorm | v1 | criterion | class memory, and which classes were seen |
| v1.2, v2.0 | batchnorm | v1 | criterion.matcher | as v1.1; none if v2.0 trained by pairwise matching |
| v2.1 | bias | v2 | criterion.matcher | none |
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from torch import Tensor

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.models.licences import QACONV

MATCHER = "matcher."
CLASSES_SEEN = "valid_class"
CLASS_MEMORY = ("class_memory", CLASSES_SEEN)  # state of the training, not part of the network
HEAD = {"local_norm.": "bn.", "weight.": "fc.", "logit_norm.": "logit_bn."}  # this project's prefix: the authors'
ENCODER = {
    "bias": {"trunk.": "base.", "neck.": "neck_conv."},
    "batchnorm": {"trunk.": "base.", "neck.0.": "neck_conv.", "neck.1.": "neck_bn."},
}
DEPTHS = {(2, 2): 18, (4, 6): 34, (4, 23): 101, (8, 36): 152}  # by blocks of layers 2 and 3; (4, 6) is also 50
LAYERS = ("layer2", "layer3", "layer4")


def load_official(path: Path, image: ImageConfig) -> tuple[Network, str]:
    """Load a checkpoint as a network in eval mode, and return it with its release, such as "v2.1".

    Args:
        path: the authors' checkpoint.pth.tar. It is read with `weights_only`.
        image: size of the images it was trained on, which the file does not hold. The authors' is 384 x 128.

    Raises:
        InputError: the file is not such a checkpoint, is for another image size, or has other keys or shapes.
    """
    model, criterion = _read(path)
    head = {name.removeprefix(MATCHER): value for name, value in criterion.items() if name not in CLASS_MEMORY}
    neck: Literal["bias", "batchnorm"] = "batchnorm" if any("neck_bn" in name for name in model) else "bias"
    backbone = _backbone(path, model, neck)
    network, variant = _network(path, backbone, image, head)
    _fill(path, network, model, head)
    network.encoder.eval()
    network.head.eval()
    return network, _release(path, neck, variant, criterion)


def _read(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Read the state dicts of encoder and loss."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: must be a checkpoint.pth.tar that holds nothing but tensors, numbers and names"
        ) from error
    content = sorted(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
    if not isinstance(loaded, Mapping) or not all(
        isinstance(loaded.get(key), Mapping) for key in ("model", "criterion")
    ):
        raise InputError(f"{path}: must be a checkpoint of the authors, with model and criterion, got {content}")
    model, criterion = (
        {name.removeprefix("module."): value for name, value in loaded[key].items()} for key in ("model", "criterion")
    )
    return model, criterion


def _backbone(path: Path, model: Mapping[str, Tensor], neck: Literal["bias", "batchnorm"]) -> BackboneConfig:
    """Find the backbone's configuration by the names and shapes of its tensors."""
    blocks = {
        layer: len({name.split(".")[2] for name in model if name.startswith(f"base.{layer}.")}) for layer in LAYERS
    }
    block_counts = (blocks["layer2"], blocks["layer3"])
    if "neck_conv.weight" not in model:
        raise InputError(f"{path}: model: neck_conv.weight is missing")
    if block_counts not in DEPTHS:
        raise InputError(
            f"{path}: model: layers 2 and 3 have {block_counts} blocks, allowed (those of a ResNet): {sorted(DEPTHS)}"
        )
    bottleneck = "base.layer1.0.conv3.weight" in model
    depth = 50 if bottleneck and block_counts == (4, 6) else DEPTHS[block_counts]
    channels, channels_in = model["neck_conv.weight"].shape[:2]
    widths = {width * (4 if bottleneck else 1): layer for width, layer in zip((128, 256, 512), LAYERS, strict=True)}
    if channels_in not in widths:
        raise InputError(f"{path}: model: neck_conv.weight has {channels_in} input channels, allowed: {sorted(widths)}")
    ibn = ""
    if "base.layer1.0.bn1.IN.weight" in model:
        ibn = "_ibn_a"
    elif any(".IN." in name for name in model):
        ibn = "_ibn_b"
    return BackboneConfig.model_validate(
        {
            "name": f"resnet{depth}{ibn}",
            "last_layer": widths[channels_in],
            "neck_channels": channels,
            "neck": neck,
            "weights": "none",
            "weights_licence": QACONV,
        }
    )


def _network(
    path: Path, backbone: BackboneConfig, image: ImageConfig, head: Mapping[str, Tensor]
) -> tuple[Network, Literal["v1", "v2"]]:
    """Build the network to fill. The head's variant follows from the length of its weights and the map size."""
    architecture = Architecture(backbone=backbone, image=image, pooled=False, head="v2")
    network = build_network(architecture, seed=0)
    locations = network.head.height * network.head.width
    weight_count = head["fc.weight"].shape[1] if "fc.weight" in head else "none"
    if weight_count == locations:
        return network, "v2"
    if weight_count == 2 * locations:
        return build_network(architecture.model_copy(update={"head": "v1"}), seed=0), "v1"
    raise InputError(
        f"{path}: criterion: fc.weight must have {locations} (v2) or {2 * locations} (v1) weights, got {weight_count}: "
        f"images of {image.height} x {image.width} have maps of {network.head.height} x {network.head.width}"
    )


def _release(path: Path, neck: str, variant: str, criterion: Mapping[str, Tensor]) -> str:
    wrapped = any(name.startswith(MATCHER) for name in criterion)
    if (neck, variant, wrapped) == ("bias", "v2", True):
        return "v2.1"
    if (neck, variant) != ("batchnorm", "v1"):
        raise InputError(
            f"{path}: no release has a {neck} neck with a {variant} head, allowed: batchnorm with v1, bias with v2"
        )
    if wrapped:
        return "v1.2 or v2.0, whose files are alike" if CLASSES_SEEN in criterion else "v2.0"
    return "v1.1" if CLASSES_SEEN in criterion else "v1.0"


def _fill(path: Path, network: Network, model: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> None:
    assert isinstance(network.architecture, Architecture)
    backbone = network.architecture.backbone
    cut_off = ("base.fc.", *(f"base.{layer}." for layer in LAYERS if layer > backbone.last_layer))
    model = {name: value for name, value in model.items() if not name.startswith(cut_off)}
    faults = []
    for part, module, tensors, prefixes in (
        ("model", network.encoder, model, ENCODER[backbone.neck]),
        ("criterion", network.head, head, HEAD),
    ):
        expected = module.state_dict()
        names = {name: _official_name(name, prefixes) for name in expected}
        optional = {name for name in names.values() if name.endswith("num_batches_tracked")}  # older PyTorch wrote none
        missing = sorted(set(names.values()) - tensors.keys() - optional)
        unknown = sorted(tensors.keys() - set(names.values()))
        misshapen = sorted(
            official
            for name, official in names.items()
            if official in tensors and expected[name].shape != tensors[official].shape
        )
        if missing or unknown or misshapen:
            lists = {"missing": missing, "unknown": unknown, "with another shape": misshapen}
            faults.append(
                f"{part}: " + ", ".join(f"{fault} {keys[:10]} ({len(keys)})" for fault, keys in lists.items())
            )
        else:
            values = {name: tensors[official] for name, official in names.items() if official in tensors}
            module.load_state_dict(values, strict=False)
    if faults:
        raise InputError(f"{path}: does not fit {backbone.name}: " + "; ".join(faults))


def _official_name(name: str, prefixes: Mapping[str, str]) -> str:
    prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
    return prefixes[prefix] + name.removeprefix(prefix)
