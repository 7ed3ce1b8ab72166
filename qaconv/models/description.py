"""Read what a saved network says of itself, and the digest of its weights, without torch and without building it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from qaconv.errors import InputError

ENCODER_GRAPH = "encoder.onnx"  # file of a saved network: its encoder, by which targets are encoded on a CPU


def read_trained(folder: Path) -> dict[str, Any]:
    """Read what a network was trained on and how, as `save_network` has written it.

    Raises:
        InputError: the folder holds no network.
    """
    trained: dict[str, Any] = read_description(folder)["trained"]
    return trained


def read_description(folder: Path) -> dict[str, Any]:
    """Read a network's `architecture` and `trained`, by JSON's types.

    Raises:
        InputError: the folder holds no network.
    """
    try:
        description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return {key: dict(description[key]) for key in ("architecture", "trained")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from error


def weights_digest(folder: Path) -> str:
    """Compute the sha256 of a saved network's weights. Maps are comparable only if it is the same.

    Raises:
        InputError: the folder holds no weights.
    """
    try:
        return sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(folder: Path, error: Exception) -> InputError:
    """Return the error of a folder that holds no network."""
    return InputError(f"{folder}: holds no network that can be read: {error}; `dvc repro` writes it")
