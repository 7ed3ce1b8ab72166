"""A checkpoint of the authors' releases goes in; our network with its weights, and the release it is of, come out.

Their file holds the encoder under `model` (a whole ResNet as `base`, which they cut as it runs) and the head under
`criterion`, inside the loss. What tells the releases apart:

| release | neck | head | where the head lies |
|---|---|---|---|
| v1.0, v1.1 (the first with IBN) | batchnorm | v1 | criterion |
| v1.2 | batchnorm | v1 | criterion.matcher |
| v2.0 | bias | v1 | criterion.matcher |
| v2.1 | bias | v2 | criterion.matcher |
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
CLASS_MEMORY = ("class_memory", "valid_class")  # of training; not part of the network
NAMES = {"base.": "trunk.", "bn.": "local_norm.", "fc.": "weight.", "logit_bn.": "logit_norm."}
NECKS = {
    "bias": {"neck_conv.": "neck."},
    "batchnorm": {"neck_conv.": "neck.0.", "neck_bn.": "neck.1."},
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
    wrapped = any(name.startswith(MATCHER) for name in criterion)
    neck: Literal["bias", "batchnorm"] = "batchnorm" if any("neck_bn" in name for name in model) else "bias"
    backbone = _backbone(path, model, neck)
    network, variant = _network(path, backbone, image, head)
    _fill(path, network, model, head)
    network.encoder.eval(), network.head.eval()
    if neck == "bias":
        return network, "v2.0" if variant == "v1" else "v2.1"
    if wrapped:
        return network, "v1.2"
    return network, "v1.1" if "ibn" in backbone.name else "v1.0 or v1.1, whose files are alike"


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
            f"{path}: model cannot be placed: neck_conv.weight is {'there' if 'neck_conv.weight' in model else 'missing'}, "
            f"and layers 2 and 3 have {counted} blocks; legal is a neck, and the blocks of a ResNet, {sorted(DEPTHS)}"
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


def _fill(path: Path, network: Network, model: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> None:
    backbone = network.architecture.backbone
    unused = ("base.fc.", *(f"base.{layer}." for layer in LAYERS if layer > backbone.last_layer))
    faults = []
    for part, module, theirs in (("model", network.encoder, model), ("criterion", network.head, head)):
        names = {**NAMES, **NECKS[backbone.neck]}
        renamed = {}
        for name, value in theirs.items():
            prefix = next((prefix for prefix in names if name.startswith(prefix)), "")
            if not name.startswith(unused):
                renamed[names.get(prefix, "") + name.removeprefix(prefix)] = (name, value)
        wanted = module.state_dict()
        counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # older PyTorch wrote none
        missing = sorted(wanted.keys() - renamed.keys() - counters)
        left_over = sorted(renamed[name][0] for name in renamed.keys() - wanted.keys())
        misshapen = sorted(
            name for name in wanted.keys() & renamed.keys() if wanted[name].shape != renamed[name][1].shape
        )
        if missing or left_over or misshapen:
            faults.append(
                f"{part}: missing {missing[:10]}, left over {left_over[:10]}, of another shape {misshapen[:10]}"
            )
        else:
            module.load_state_dict({name: value for name, (_, value) in renamed.items()}, strict=False)
    if faults:
        raise InputError(f"{path}: does not fit {backbone.name}: " + "; ".join(faults))
