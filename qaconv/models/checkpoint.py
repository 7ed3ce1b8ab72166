"""The network and how to build it again: weights as safetensors, everything else as JSON beside them."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qaconv.config import BackboneConfig, ImageConfig, Settings
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.models.encoder import Encoder, build_encoder
from qaconv.models.head import QAConv


class Architecture(Settings):
    """What rebuilds a network's shape."""

    backbone: BackboneConfig
    image: ImageConfig
    pooled: bool  # maps averaged to one location: the baseline, whose score is a cosine
    head: Literal["v1", "v2"] = "v2"


@dataclass(frozen=True)
class Network:
    """An encoder, the head that compares its maps, and what they are made of."""

    encoder: Encoder
    head: QAConv
    architecture: Architecture


def build_network(architecture: Architecture, seed: int) -> Network:
    """A network with its initial weights, drawn from `seed` where no file gives them."""
    backbone, image = architecture.backbone, architecture.image
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_encoder(backbone, pooled=architecture.pooled)
        size = encoder.map_size(image.height, image.width)
        head = QAConv(encoder.channels, *size, variant=architecture.head)
    return Network(encoder, head, architecture)


def save_network(network: Network, folder: Path, trained: dict[str, Any], tables: dict[str, str]) -> None:
    """Writes `weights.safetensors`, `model.json` and text files beside them.

    Args:
        network: on any device.
        folder: replaced whole.
        trained: what it was trained on and how, for people and for the contract; goes into `model.json`.
        tables: text by file name, such as the training's history.
    """
    parts = {"encoder": network.encoder, "head": network.head}
    weights = {
        f"{part}.{name}": value.cpu().contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    with replacing_folder(folder) as beside:
        save_file(weights, beside / "weights.safetensors")
        write_json(beside / "model.json", {"architecture": network.architecture.model_dump(), "trained": trained})
        for name, text in tables.items():
            (beside / name).write_text(text, encoding="utf-8")


def weights_digest(folder: Path) -> str:
    """sha256 of a saved network's weights: maps are comparable if, and only if, theirs is the same."""
    return sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def load_network(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Reads what `save_network` wrote, in eval mode on the CPU, with what it was trained on.

    Raises:
        InputError: the folder holds no network, or its weights do not fit its description.
    """
    try:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        architecture = Architecture.model_validate(description["architecture"])
        weights = load_file(folder / "weights.safetensors")
        unfilled = architecture.model_copy(
            update={"backbone": architecture.backbone.model_copy(update={"weights": "none"})}
        )
        network = build_network(unfilled, seed=0)
        for part, module in (("encoder", network.encoder), ("head", network.head)):
            module.load_state_dict(
                {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
            )
            module.eval()
        return Network(network.encoder, network.head, architecture), description["trained"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder}: holds no network that can be read: {error}; `dvc repro` writes it") from error
