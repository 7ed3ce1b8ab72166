"""Trainings that take a second: tiny images of a few people, a small network, a short recipe."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from qaconv.config import AugmentConfig, BackboneConfig, ImageConfig, TrainConfig
from qaconv.config.kinds import read_kind
from qaconv.data.loading import Crops
from qaconv.data.samplers.pk import PKSampler
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.training import trainer
from qaconv.training.distributed import is_first
from qaconv.training.holdout import Holdout
from qaconv.training.methods.trained import TrainedMethod

SIZE = ImageConfig(height=32, width=16)
PEOPLE, IMAGES = 6, 5
DOMAINS = np.repeat(["near", "far"], [2 * IMAGES, 4 * IMAGES])
CAMIDS = np.tile(np.arange(IMAGES), PEOPLE)
BACKBONE = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
AUGMENT = AugmentConfig(pad=2, rotation_degrees=5, flip=0.5, colour_jitter=0.5, occlusion=0.5)
RECIPE = TrainConfig(
    amp=False,
    freeze_batchnorm=False,
    identities_per_batch=3,
    images_per_identity=2,
    epochs=3,
    lr=0.05,
    backbone_lr=0.05,
    weight_decay=5e-4,
    clip_norm=8,
    lr_drop_when_loss_below=0,
    lr_drop_by="training_loss",
    lr_drop_epoch=2,
    learnt_by_epoch=100,
    learnt_accuracy=0.05,
)


def make_method(kind: str = "qaconv", **changes: object) -> TrainedMethod:
    """Make the settings of a method for images of SIZE, by default with pairwise matching and batches of PK."""
    values = {"kind": kind, "image": SIZE, "backbone": BACKBONE, "augment": AUGMENT, "train": RECIPE}
    values |= {"loss": PairwiseMatching(), "sampler": PKSampler()}
    return read_kind("method", TrainedMethod, {**values, **changes})


PAIRWISE = make_method()


def draw_people(folder: Path) -> TrainingCrops:
    """Draw six people, each of one colour, with five noisy images each."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths, labels = [], []
    for person in range(PEOPLE):
        colour = rng.integers(40, 215, 3)
        for image in range(IMAGES):
            paths.append(folder / f"{person}_{image}.png")
            pixels = np.clip(colour + rng.integers(-40, 40, (40, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(paths[-1])
            labels.append(person)
    return TrainingCrops(Crops(paths, SIZE), labels, build_augmentation(AUGMENT, SIZE))


def run(
    crops: TrainingCrops,
    folder: Path,
    recipe: TrainConfig = RECIPE,
    method: TrainedMethod = PAIRWISE,
    seed: int = 1,
    workers: int = 0,
    fingerprint: str = "same",
    holdout: Holdout | None = None,
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Train a network with its state in `folder`, and return its weights by name and the history."""
    network = method.build(seed)
    history = trainer.train(
        network,
        crops,
        DOMAINS,
        CAMIDS,
        recipe,
        method,
        holdout=holdout,
        seed=seed,
        device=torch.device("cpu"),
        workers=workers,
        checkpoint_every_steps=2,
        state_path=folder / "state.pt",
        fingerprint=fingerprint,
    )
    if is_first():
        (folder / "state.pt").unlink()  # the caller does, once the network is saved
    return {**network.encoder.state_dict(), **network.head.state_dict()}, history
