"""Train a network on the table of the sources, and name the state of a killed training by what it depends on."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from qaconv.config import ImageConfig
from qaconv.data.loading import Crops
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.models.checkpoint import Architecture, Network
from qaconv.training.distributed import is_first
from qaconv.training.holdout import Holdout
from qaconv.training.methods import NO_FILE, Sources
from qaconv.training.methods.trained import TrainedMethod
from qaconv.training.trainer import train

FITTED_PEOPLE = 50  # about as many of the training, whom a vector's head is fitted on if nobody is held out


def train_on(network: Network, method: TrainedMethod, sources: Sources) -> pd.DataFrame:
    """Train a network in place, and return its history. A killed training with the same settings is resumed.

    Raises:
        InputError: there are fewer people than a batch needs, the loss is not finite, or nothing is learnt.
    """
    paths = [Path(path) for path in sources.table["path"]]
    vary = build_augmentation(method.augment, method.image)
    described = {
        "seed": sources.seed,
        "method": method.model_dump(),
        "data": sources.summary,
        "torch": torch.__version__,
    }
    assert isinstance(network.architecture, Architecture)
    weights = network.architecture.backbone.weights
    if weights not in NO_FILE:
        described["weights"] = sha256(Path(weights).read_bytes()).hexdigest()
    history = train(
        network,
        TrainingCrops(Crops(paths, method.image), sources.table["label"].tolist(), vary),
        sources.table["domain"].to_numpy(),
        sources.table["camid"].to_numpy(),
        method.train,
        method,
        holdout=sources.holdout,
        seed=sources.seed,
        device=sources.device,
        workers=sources.machine.workers,
        checkpoint_every_steps=sources.machine.checkpoint_every_steps,
        state_path=sources.state_path,
        fingerprint=sha256(json.dumps(described, sort_keys=True).encode()).hexdigest(),
    )
    if method.loss.needs_vectors and is_first():
        people = sources.holdout or _trained_people(sources.table, method.image)
        people.fit_head(network, device=sources.device, workers=sources.machine.workers)
    return history


def _trained_people(table: pd.DataFrame, size: ImageConfig) -> Holdout:
    """Take some people of the training table, and count all images of a person as if they were on different cameras."""
    labels = table["label"].to_numpy().astype(np.int64)
    chosen = labels % max(1, len(np.unique(labels)) // FITTED_PEOPLE) == 0
    paths = [Path(path) for path in table["path"][chosen]]
    return Holdout(paths, labels[chosen], np.arange(len(paths)), size)
