"""Train a network, and calibrate its logits on the people held out."""

import json
import logging
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch

from qaconv.config import BackboneConfig, Params
from qaconv.data.loading import Crops
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.errors import InputError
from qaconv.files import read_file
from qaconv.models.checkpoint import Architecture, build_network, save_network
from qaconv.paths import MODELS, SOURCES, UNFINISHED, WEIGHTS
from qaconv.training.device import out_of_memory_names
from qaconv.training.distributed import is_first, joined
from qaconv.training.holdout import Holdout
from qaconv.training.trainer import train as train_network

log = logging.getLogger(__name__)

NO_FILE = ("none", "imagenet")  # values of backbone.weights that name no file


def train(params: Params, method: str) -> None:
    """Train a method on data/sources and write artifacts/model/<method>. A killed run is resumed.

    Raises:
        InputError: the method is unknown, this machine does not have the device, or the file of backbone.weights is not
            in DVC.
    """
    remedy = "lower train.identities_per_batch or train.images_per_identity, or image"
    with joined(params.machine) as device, out_of_memory_names(remedy):
        _train(params, method, device)


def _train(params: Params, method: str, device: torch.device) -> None:
    chosen = params.method(method)
    table = read_file(pd.read_parquet, SOURCES / "train.parquet")
    summary = json.loads((SOURCES / "summary.json").read_text(encoding="utf-8"))

    backbone = _with_weights_file(params.backbone)
    architecture = Architecture(backbone=backbone, image=params.image, pooled=chosen.pooled, head=chosen.head)
    network = build_network(architecture, params.seed)
    paths = [Path(path) for path in table["path"]]
    crops = TrainingCrops(
        Crops(paths, params.image), table["label"].tolist(), build_augmentation(params.augment, params.image)
    )
    holdout = Holdout.load(SOURCES / "holdout.parquet", params.image) if params.train.holdout_share else None
    recipe = {
        "seed": params.seed,
        "train": params.train.model_dump(),
        "method": chosen.model_dump(),
        "augment": params.augment.model_dump(),
        "data": summary,
    }
    described = {**recipe, "architecture": architecture.model_dump(), "torch": torch.__version__}
    if backbone.weights not in NO_FILE:
        described["weights"] = sha256(Path(backbone.weights).read_bytes()).hexdigest()
    unfinished = UNFINISHED / f"{method}.pt"
    history = train_network(
        network,
        crops,
        table["domain"].to_numpy(),
        params.train,
        chosen,
        holdout=holdout,
        seed=params.seed,
        device=device,
        workers=params.machine.workers,
        checkpoint_every_steps=params.machine.checkpoint_every_steps,
        state_path=unfinished,
        fingerprint=sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
    )
    if not is_first():
        return
    calibration = holdout.calibrate(network, device=device, workers=params.machine.workers) if holdout else None
    trained = {**recipe, "calibration": asdict(calibration) if calibration else None}
    save_network(network, MODELS / method, trained, {"history.csv": history.to_csv(index=False, lineterminator="\n")})
    unfinished.unlink()


def _with_weights_file(backbone: BackboneConfig) -> BackboneConfig:
    """Return the settings with the path of the weights, which a clone must be able to get."""
    if backbone.weights in NO_FILE:
        return backbone
    path = WEIGHTS / backbone.weights
    if not path.with_name(f"{path.name}.dvc").is_file():
        raise InputError(f"backbone.weights: {path} must be added to DVC, so that clones have it: `dvc add {path}`")
    return backbone.model_copy(update={"weights": str(path)})
