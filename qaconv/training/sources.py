"""Train a network on the table of the sources, and name the state of a killed training by what it depends on."""

import json
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch

from qaconv.data.loading import Crops
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.models.checkpoint import Architecture, Network
from qaconv.training.methods import Sources
from qaconv.training.methods.trained import NO_FILE, TrainedMethod
from qaconv.training.trainer import train


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
    return train(
        network,
        TrainingCrops(Crops(paths, method.image), sources.table["label"].tolist(), vary),
        sources.table["domain"].to_numpy(),
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
