"""Define what the methods learn from; each module is a kind of method, whose settings are read without torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qaconv.config import MachineConfig
from qaconv.errors import InputError
from qaconv.paths import WEIGHTS

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from qaconv.training.holdout import Holdout


@dataclass(frozen=True)
class Sources:
    """The images of data/sources, and where and how a method may learn from them.

    Attributes:
        table: images to train on: path, label, domain, pid, camid and sha256.
        summary: numbers of images and people, and the digests of the datasets, by JSON's types.
        holdout: people who are not in the table; None if there are none.
        seed: of every draw.
        device: that trains.
        machine: settings of processes and checkpoints.
        state_path: file of the state of an unfinished training; the caller removes it.
    """

    table: "pd.DataFrame"
    summary: Mapping[str, Any]
    holdout: "Holdout | None"
    seed: int
    device: "torch.device"
    machine: MachineConfig
    state_path: Path


NO_FILE = ("none", "imagenet")  # values of backbone.weights that name no file
CHAMPION = "champion"  # value of backbone.weights: the network of the present champion, which flows number
CHAMPION_FILE = re.compile(r"champion-(?P<version>\d+)\.safetensors")  # that network, which flows fetch


def find_weights(name: str) -> Path:
    """Return the path of a file in data/weights, which a clone must be able to get.

    Raises:
        InputError: the file is neither in DVC nor a champion's that was fetched.
    """
    path = WEIGHTS / name
    if name == CHAMPION or (CHAMPION_FILE.fullmatch(name) and not path.is_file()):
        raise InputError(f"backbone.weights: {path} is fetched from the registry by `python -m flows.retrain`; run it")
    if CHAMPION_FILE.fullmatch(name):
        return path
    if not path.with_name(f"{name}.dvc").is_file():
        raise InputError(f"backbone.weights: {path} must be added to DVC, so that clones have it: `dvc add {path}`")
    return path
