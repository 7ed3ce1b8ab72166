"""Read files of weights, and fill backbones from them. Nothing in a file is run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from qaconv.errors import InputError

CLASSIFIERS = ("fc.", "classifier.", "head.")


def read_tensors(path: Path, read: Callable[[Path], Any] | None = None) -> Mapping[str, Tensor]:
    """Read tensors by name.

    Args:
        path: a .safetensors file, or a state dict of torch.
        read: reads the file, and must not unpickle anything but tensors. Default: by the file's suffix.

    Raises:
        InputError: there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise InputError(
            f"backbone.weights must be none, imagenet or an existing .safetensors, .pth or .pt file, got {path}"
        )
    try:
        loaded = (read or _read)(path)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read: must be a .safetensors file, or a .pth or .pt state dict that holds nothing but "
            "tensors"
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: must hold a state dict, tensors by name, got {type(loaded).__name__}")
    return loaded


def fill(
    network: nn.Module, tensors: Mapping[str, Tensor], source: Path | str, *, unused: tuple[str, ...] = ()
) -> None:
    """Fill a network with tensors of the same names. The classifier may be missing, as it is not used.

    Args:
        network: the backbone.
        tensors: by name.
        source: file that they were read from, for errors.
        unused: further names, or beginnings of names, that are ignored on both sides. Default: none.

    Raises:
        InputError: a name or a shape differs.
    """
    ignored = (*CLASSIFIERS, *unused)
    used = {name: value for name, value in tensors.items() if not name.startswith(ignored)}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith(ignored)}
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
            f"{source}: does not fit the backbone: missing {missing[:10]} ({len(missing)}), "
            f"unknown {unknown[:10]} ({len(unknown)}), with another shape {misshapen[:10]} ({len(misshapen)})"
        )
    network.load_state_dict(used, strict=False)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
