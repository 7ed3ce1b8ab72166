"""Save and load networks: weights as safetensors, and their description as JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.config.values import Settings
from qaconv.errors import InputError, name_first
from qaconv.files import replacing_folder, write_json
from qaconv.models.camera_norms import CameraNorms, list_norms
from qaconv.models.description import read_description, unreadable
from qaconv.models.encoder import Encoder, build_encoder
from qaconv.models.graph_encoder import GraphEncoder
from qaconv.models.head import QAConv
from qaconv.models.licences import UNKNOWN, as_metadata


class Architecture(Settings):
    """Description from which a network is built again."""

    backbone: BackboneConfig
    image: ImageConfig
    pooled: bool  # whether maps are averaged to one location, so that the score is a cosine: the baseline
    head: Literal["v1", "v2"] = "v2"
    flip: bool = False  # whether the mirrored image is encoded too, and both maps are averaged
    cameras: int = 0  # with batch norms of their own


class GraphArchitecture(Settings):
    """Description of a network whose encoder is a graph that was not trained here."""

    file: str  # name of the ONNX file
    sha256: str  # of the file
    weights_licence: str = UNKNOWN  # of the file
    image: ImageConfig
    maps: tuple[int, int, int]  # C, h, w


@dataclass(frozen=True)
class Network:
    """An encoder, the head that compares its maps, and their description."""

    encoder: Encoder | GraphEncoder
    head: QAConv
    architecture: Architecture | GraphArchitecture

    @property
    def knows_cameras(self) -> bool:
        """Whether some cameras have batch norms of their own, so that their crops are encoded with the camera."""
        return isinstance(self.architecture, Architecture) and self.architecture.cameras > 0


def build_network(architecture: Architecture | GraphArchitecture, seed: int) -> Network:
    """Build a network with initial weights: from the backbone's file if there is one, else drawn from `seed`.

    A file that `save_network` has written is that of a whole network, with its head. An encoder that is a graph has no
    weights before its state is loaded.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    if isinstance(architecture, GraphArchitecture):
        return Network(GraphEncoder(), QAConv(*architecture.maps), architecture)
    backbone, image = architecture.backbone, architecture.image
    start = _read_whole_network(Path(backbone.weights))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        empty = backbone.model_copy(update={"weights": "none"})
        encoder = build_encoder(empty if start else backbone, image, pooled=architecture.pooled, flip=architecture.flip)
        if architecture.cameras:
            features = sum(norm.num_features for norm in list_norms(encoder))
            encoder.normalise_cameras(CameraNorms(architecture.cameras, features))
        size = encoder.map_size(image.height, image.width)
        head = QAConv(encoder.channels, *size, variant=architecture.head)
    network = Network(encoder, head, architecture)
    if start:
        _fill(network, start, Path(backbone.weights))
    return network


def save_network(network: Network, folder: Path, trained: dict[str, Any], files: Mapping[str, str | bytes]) -> None:
    """Save a network as `weights.safetensors`, with its first weights' licence, and `model.json`, with further files.

    Args:
        network: the network, on any device.
        folder: where to save it. An existing folder is replaced as a whole.
        trained: what it was trained on and how, as JSON; it goes into `model.json`.
        files: content by file name, such as the training's history.
    """
    weights = {name: value.cpu().contiguous() for name, value in _state(network).items()}
    described = network.architecture
    licence = (described if isinstance(described, GraphArchitecture) else described.backbone).weights_licence
    with replacing_folder(folder) as new_folder:
        save_file(weights, new_folder / "weights.safetensors", metadata=as_metadata(licence))
        write_json(new_folder / "model.json", {"architecture": network.architecture.model_dump(), "trained": trained})
        for name, content in files.items():
            (new_folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


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
        >>> save_network(network, folder, trained={"epochs": 6}, files={})
        >>> loaded, trained = load_network(folder)
        >>> loaded.encoder.map_size(64, 32), trained
        ((8, 4), {'epochs': 6})
    """
    folder = Path(folder)
    description = read_description(folder)
    with _naming_damage(folder):
        architecture = _read_architecture(description["architecture"])
        network = build_network(_unfilled(architecture), seed=0)
        _load_parts(load_file(folder / "weights.safetensors"), encoder=network.encoder.eval(), head=network.head.eval())
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
    with _naming_damage(folder):
        head = QAConv(*map_shape, variant=description["architecture"].get("head", "v2"))
        _load_parts(load_file(folder / "weights.safetensors"), head=head.eval())
        return head


@contextmanager
def _naming_damage(folder: Path) -> Iterator[None]:
    try:
        yield
    except InputError:  # such as a package that is not installed
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise unreadable(folder, error) from error


def _load_parts(weights: dict[str, Tensor], **parts: nn.Module) -> None:
    """Fill parts of a network, by name, with their share of the weights."""
    for part, module in parts.items():
        prefix = f"{part}."
        module.load_state_dict(
            {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        )


def _state(network: Network) -> dict[str, Tensor]:
    """Return the tensors of encoder and head by name, as in a file of weights."""
    parts = {"encoder": network.encoder, "head": network.head}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def _read_whole_network(path: Path) -> dict[str, Tensor] | None:
    """Read a file that `save_network` has written; None for any other setting or file of weights."""
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read: must be a .safetensors file: {error}") from error
    parts = {name.partition(".")[0] for name in weights}  # timm's files have a head, too
    return weights if parts == {"encoder", "head"} else None


def _fill(network: Network, weights: dict[str, Tensor], path: Path) -> None:
    """Fill a network that is to be trained further.

    Raises:
        InputError: a name or a shape differs.
    """
    expected = {name: tuple(value.shape) for name, value in _state(network).items()}
    actual = {name: tuple(value.shape) for name, value in weights.items()}
    faults = [
        f"{name}: must be {expected.get(name, 'absent')}, got {actual.get(name, 'absent')}"
        for name in sorted(expected.keys() | actual.keys())
        if expected.get(name) != actual.get(name)
    ]
    if faults:
        raise InputError(
            f"{path}: a training can begin with a network of the same image, backbone and head only: {len(faults)} "
            f"tensors differ:{name_first(faults)}"
        )
    _load_parts(weights, encoder=network.encoder, head=network.head)


def _read_architecture(values: dict[str, Any]) -> Architecture | GraphArchitecture:
    kind: type[Architecture | GraphArchitecture] = GraphArchitecture if "maps" in values else Architecture
    return kind.model_validate_json(json.dumps(values))


def _unfilled(architecture: Architecture | GraphArchitecture) -> Architecture | GraphArchitecture:
    """Return the architecture without the file that its training began with."""
    if isinstance(architecture, GraphArchitecture):
        return architecture
    return architecture.model_copy(update={"backbone": architecture.backbone.model_copy(update={"weights": "none"})})
