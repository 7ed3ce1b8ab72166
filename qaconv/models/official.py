"""Load a checkpoint of the authors' releases as a network of this project.

Their file holds the encoder under `model` (a whole ResNet as `base`, which they cut as it runs) and the head under
`criterion`, inside the loss. What tells the releases apart:

| release | neck | head | where the head lies | of its training |
|---|---|---|---|---|
| v1.0 | batchnorm | v1 | criterion | class memory |
| v1.1 | batchnorm | v1 | criterion | class memory, and which classes were seen |
| v1.2, v2.0 | batchnorm | v1 | criterion.matcher | the same; none where v2.0 trained by pairwise matching |
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

MATCHER = "matcher."
CLASSES_SEEN = "valid_class"
CLASS_MEMORY = ("class_memory", CLASSES_SEEN)  # of training; not part of the network
HEAD = {"local_norm.": "bn.", "weight.": "fc.", "logit_norm.": "logit_bn."}  # ours: theirs
ENCODER = {
    "bias": {"trunk.": "base.", "neck.": "neck_conv."},
    "batchnorm": {"trunk.": "base.", "neck.0.": "neck_conv.", "neck.1.": "neck_bn."},
}
DEPTHS = {(2, 2): 18, (4, 6): 34, (4, 23): 101, (8, 36): 152}  # by blocks of layers 2 and 3; (4, 6) is 50 as well
LAYERS = ("layer2", "layer3", "layer4")


def load_official(path: Path, image: ImageConfig) -> tuple[Network, str]:
    """The network, in eval mode, and its release, such as "v2.1".

    Args:
        path: theirs are called checkpoint.pth.tar; it is read with `weights_only`.
        image: the size it was trained for, which the file does not say; theirs is 384 x 128.

    Raises:
        InputError: the file is no such checkpoint, is of another image size, or its keys do not fit: they are named.
    """
    model, criterion = _read(path)
    head = {name.removeprefix(MATCHER): value for name, value in criterion.items() if name not in CLASS_MEMORY}
    neck: Literal["bias", "batchnorm"] = "batchnorm" if any("neck_bn" in name for name in model) else "bias"
    backbone = _backbone(path, model, neck)
    network, variant = _network(path, backbone, image, head)
    _fill(path, network, model, head)
    network.encoder.eval(), network.head.eval()
    return network, _release(path, neck, variant, criterion)


def _read(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """The state dicts of encoder and loss."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as tensors, numbers and names alone; legal is a whole checkpoint.pth.tar"
        ) from error
    keys = sorted(map(str, loaded)) if isinstance(loaded, Mapping) else type(loaded).__name__
    if not isinstance(loaded, Mapping) or not all(
        isinstance(loaded.get(key), Mapping) for key in ("model", "criterion")
    ):
        raise InputError(f"{path}: is no checkpoint of the authors: it holds {keys}; legal is model and criterion")
    model, criterion = (
        {name.removeprefix("module."): value for name, value in loaded[key].items()} for key in ("model", "criterion")
    )
    return model, criterion


def _backbone(path: Path, model: Mapping[str, Tensor], neck: Literal["bias", "batchnorm"]) -> BackboneConfig:
    """What the names and shapes of its tensors say."""
    blocks = {
        layer: len({name.split(".")[2] for name in model if name.startswith(f"base.{layer}.")}) for layer in LAYERS
    }
    counted = (blocks["layer2"], blocks["layer3"])
    if "neck_conv.weight" not in model or counted not in DEPTHS:
        raise InputError(
            f"{path}: model cannot be placed: neck_conv.weight is "
            f"{'there' if 'neck_conv.weight' in model else 'missing'}, layers 2 and 3 have {counted} blocks; "
            f"legal is a neck, and the blocks of a ResNet, {sorted(DEPTHS)}"
        )
    bottleneck = "base.layer1.0.conv3.weight" in model
    depth = 50 if bottleneck and counted == (4, 6) else DEPTHS[counted]
    channels, channels_in = model["neck_conv.weight"].shape[:2]
    widths = {width * (4 if bottleneck else 1): layer for width, layer in zip((128, 256, 512), LAYERS, strict=True)}
    if channels_in not in widths:
        raise InputError(f"{path}: model: neck_conv.weight takes {channels_in} channels; legal are {sorted(widths)}")
    form = (
        "_ibn_a"
        if "base.layer1.0.bn1.IN.weight" in model
        else "_ibn_b"
        if any(".IN." in name for name in model)
        else ""
    )
    return BackboneConfig.model_validate(
        {
            "name": f"resnet{depth}{form}",
            "last_layer": widths[channels_in],
            "neck_channels": channels,
            "neck": neck,
            "weights": "none",
        }
    )


def _network(
    path: Path, backbone: BackboneConfig, image: ImageConfig, head: Mapping[str, Tensor]
) -> tuple[Network, Literal["v1", "v2"]]:
    """The network to fill; the length of the head's weights says which variant it is, once the map size is known."""
    described = Architecture(backbone=backbone, image=image, pooled=False, head="v2")
    network = build_network(described, seed=0)
    locations = network.head.height * network.head.width
    found = head["fc.weight"].shape[1] if "fc.weight" in head else "none"
    if found == locations:
        return network, "v2"
    if found == 2 * locations:
        return build_network(described.model_copy(update={"head": "v1"}), seed=0), "v1"
    raise InputError(
        f"{path}: criterion: fc.weight has {found} weights; images of {image.height} x {image.width} have maps of "
        f"{network.head.height} x {network.head.width}, for which {locations} (v2) and {2 * locations} (v1) are legal"
    )


def _release(path: Path, neck: str, variant: str, criterion: Mapping[str, Tensor]) -> str:
    wrapped = any(name.startswith(MATCHER) for name in criterion)
    if (neck, variant, wrapped) == ("bias", "v2", True):
        return "v2.1"
    if (neck, variant) != ("batchnorm", "v1"):
        raise InputError(
            f"{path}: a {neck} neck with a {variant} head is of no release; legal are batchnorm with v1, bias with v2"
        )
    if wrapped:
        return "v1.2 or v2.0, whose files are alike" if CLASSES_SEEN in criterion else "v2.0"
    return "v1.1" if CLASSES_SEEN in criterion else "v1.0"


def _fill(path: Path, network: Network, model: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> None:
    backbone = network.architecture.backbone
    unused = ("base.fc.", *(f"base.{layer}." for layer in LAYERS if layer > backbone.last_layer))  # what is cut off
    model = {name: value for name, value in model.items() if not name.startswith(unused)}
    faults = []
    for part, module, found, prefixes in (
        ("model", network.encoder, model, ENCODER[backbone.neck]),
        ("criterion", network.head, head, HEAD),
    ):
        wanted = module.state_dict()
        names = {name: _renamed(name, prefixes) for name in wanted}
        optional = {name for name in names.values() if name.endswith("num_batches_tracked")}  # older PyTorch wrote none
        missing = sorted(set(names.values()) - found.keys() - optional)
        left_over = sorted(found.keys() - set(names.values()))
        misshapen = sorted(
            theirs for ours, theirs in names.items() if theirs in found and wanted[ours].shape != found[theirs].shape
        )
        if missing or left_over or misshapen:
            lists = {"missing": missing, "left over": left_over, "of another shape": misshapen}
            faults.append(f"{part}: " + ", ".join(f"{what} {keys[:10]} ({len(keys)})" for what, keys in lists.items()))
        else:
            filled = {ours: found[theirs] for ours, theirs in names.items() if theirs in found}
            module.load_state_dict(filled, strict=False)
    if faults:
        raise InputError(f"{path}: does not fit {backbone.name}: " + "; ".join(faults))


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
    return prefixes[prefix] + name.removeprefix(prefix)
