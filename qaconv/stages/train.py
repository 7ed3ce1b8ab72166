"""Train a network, and calibrate its logits on the people held out."""

import json
import logging
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from qaconv.config import Params
from qaconv.data.loading import Crops
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.models.checkpoint import Architecture, build_network, save_network
from qaconv.paths import MODELS, SOURCES, UNFINISHED
from qaconv.training.device import out_of_memory_names
from qaconv.training.distributed import is_first, joined
from qaconv.training.holdout import Holdout
from qaconv.training.trainer import train as train_network

log = logging.getLogger(__name__)


def train(params: Params, method: str) -> None:
    """Train a method on data/sources and write artifacts/model/<method>. A killed run is resumed.

    Raises:
        InputError: the method is unknown, or this machine does not have the device.
    """
    remedy = "lower train.identities_per_batch or train.images_per_identity, or image"
    with joined(params.machine) as device, out_of_memory_names(remedy):
        _train(params, method, device)


def _train(params: Params, method: str, device: torch.device) -> None:
    chosen = params.method(method)
    table = pd.read_parquet(SOURCES / "train.parquet")
    summary = json.loads((SOURCES / "summary.json").read_text(encoding="utf-8"))

    architecture = Architecture(backbone=params.backbone, image=params.image, pooled=chosen.pooled, head=chosen.head)
    network = build_network(architecture, params.seed)
    paths = [Path(path) for path in table["path"]]
    crops = TrainingCrops(
        Crops(paths, params.image), table["label"].tolist(), build_augmentation(params.augment, params.image)
    )
    holdout = _holdout(params) if params.train.holdout_share else None
    recipe = {
        "seed": params.seed,
        "train": params.train.model_dump(),
        "method": chosen.model_dump(),
        "augment": params.augment.model_dump(),
        "data": summary,
    }
    described = {**recipe, "architecture": architecture.model_dump(), "torch": torch.__version__}
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


def _holdout(params: Params) -> Holdout:
    table = pd.read_parquet(SOURCES / "holdout.parquet")
    return Holdout(
        [Path(path) for path in table["path"]],
        table["label"].to_numpy().astype(np.int64),
        table.groupby(["domain", "camid"]).ngroup().to_numpy().astype(np.int64),
        params.image,
    )
