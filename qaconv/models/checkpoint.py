"""Save and load networks: weights as safetensors, and their description as JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.config.values import Settings
from qaconv.errors import InputError
from qaconv.files import replacing_folder, write_json
from qaconv.models.description import read_description, unreadable
from qaconv.models.encoder import Encoder, build_encoder
from qaconv.models.graph_encoder import GraphEncoder
from qaconv.models.head import QAConv


class Architecture(Settings):
    """Description from which a network is built again."""

    backbone: BackboneConfig
    image: ImageConfig
    pooled: bool  # whether maps are averaged to one location, so that the score is a cosine: the baseline
    head: Literal["v1", "v2"] = "v2"


class GraphArchitecture(Settings):
    """Description of a network whose encoder is a graph that was not trained here."""

    file: str  # name of the ONNX file
    sha256: str  # of the file
    image: ImageConfig
    maps: tuple[int, int, int]  # C, h, w


@dataclass(frozen=True)
class Network:
    """An encoder, the head that compares its maps, and their description."""

    encoder: Encoder | GraphEncoder
    head: QAConv
    architecture: Architecture | GraphArchitecture


def build_network(architecture: Architecture | GraphArchitecture, seed: int) -> Network:
    """Build a network with initial weights: from the backbone's file if there is one, else drawn from `seed`.

    An encoder that is a graph has none before its state is loaded.
    """
    if isinstance(architecture, GraphArchitecture):
        return Network(GraphEncoder(), QAConv(*architecture.maps), architecture)
    backbone, image = architecture.backbone, architecture.image
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build_encoder(backbone, pooled=architecture.pooled)
        size = encoder.map_size(image.height, image.width)
        head = QAConv(encoder.channels, *size, variant=architecture.head)
    return Network(encoder, head, architecture)


def save_network(network: Network, folder: Path, trained: dict[str, Any], tables: dict[str, str]) -> None:
    """Save a network as `weights.safetensors` and `model.json`, with text files.

    Args:
        network: the network, on any device.
        folder: where to save it. An existing folder is replaced as a whole.
        trained: what it was trained on and how, as JSON; it goes into `model.json`.
        tables: text by file name, such as the training's history.
    """
    parts = {"encoder": network.encoder, "head": network.head}
    weights = {
        f"{part}.{name}": value.cpu().contiguous()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    with replacing_folder(folder) as new_folder:
        save_file(weights, new_folder / "weights.safetensors")
        write_json(new_folder / "model.json", {"architecture": network.architecture.model_dump(), "trained": trained})
        for name, text in tables.items():
            (new_folder / name).write_text(text, encoding="utf-8")


def load_network(folder: Path | str) -> tuple[Network, dict[str, Any]]:
    """Load a network in eval mode on the CPU, with the description of its training.

    Raises:
        InputError: the folder holds no network, or its weights do not fit its description.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from qaconv.config import BackboneConfig, ImageConfig
        >>> from qaconv.models.checkpoint import Architecture, build_network, load_network, save_network
        >>> backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
        >>> image = ImageConfig(height=64, width=32)
        >>> network = build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=1)
        >>> folder = Path(tempfile.mkdtemp()) / "model"
        >>> save_network(network, folder, trained={"epochs": 6}, tables={})
        >>> loaded, trained = load_network(folder)
        >>> loaded.encoder.map_size(64, 32), trained
        ((8, 4), {'epochs': 6})
    """
    folder = Path(folder)
    description = read_description(folder)
    with _refusing_damage(folder):
        architecture = _read_architecture(description["architecture"])
        network = build_network(_unfilled(architecture), seed=0)
        _load_parts(folder, encoder=network.encoder, head=network.head)
        return Network(network.encoder, network.head, architecture), description["trained"]


def load_head(folder: Path, map_shape: tuple[int, int, int]) -> QAConv:
    """Load a network's head alone, in eval mode on the CPU: all that matching needs of it.

    Args:
        folder: of the network.
        map_shape: (C, h, w) of its maps.

    Raises:
        InputError: the folder holds no network, or its head is of maps of another shape.
    """
    description = read_description(folder)
    with _refusing_damage(folder):
        head = QAConv(*map_shape, variant=description["architecture"].get("head", "v2"))
        _load_parts(folder, head=head)
        return head


@contextmanager
def _refusing_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except InputError:  # such as a package that is not installed
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise unreadable(folder, error) from error


def _load_parts(folder: Path, **parts: nn.Module) -> None:
    """Fill parts of a network, by name, with the saved weights, and put them in eval mode."""
    weights = load_file(folder / "weights.safetensors")
    for part, module in parts.items():
        module.load_state_dict(
            {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
        )
        module.eval()


def _read_architecture(values: dict[str, Any]) -> Architecture | GraphArchitecture:
    kind: type[Architecture | GraphArchitecture] = GraphArchitecture if "maps" in values else Architecture
    return kind.model_validate_json(json.dumps(values))


def _unfilled(architecture: Architecture | GraphArchitecture) -> Architecture | GraphArchitecture:
    """Return the architecture without the file that its training began with."""
    if isinstance(architecture, GraphArchitecture):
        return architecture
    return architecture.model_copy(update={"backbone": architecture.backbone.model_copy(update={"weights": "none"})})
