"""Compare recipes on real images: trained on some of Market-1501's training people, chosen by others and drawn sites.

`python -m benchmarks.real_recipes FOLDER [NAME ...]` trains each recipe of RECIPES, or those that are named, on
three of four training people of FOLDER, which holds `bounding_box_train`. It prints direct rank-1 and mAP on the other
people and on two drawn sites. docs/real-images.md says where MobileNetV2's weights come from. Query and gallery of
Market-1501, and other real datasets, have no part in it: they are what that page reports.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.baseline import draw, rank, train_on
from benchmarks.machine import describe
from benchmarks.recipes import DRAWN
from qaconv.config import AugmentConfig, BackboneConfig, EncodeConfig, ImageConfig, TrainConfig
from qaconv.data.layouts import market1501
from qaconv.data.manifest import Manifest
from qaconv.data.samplers.graph import GraphSampler
from qaconv.data.samplers.pk import PKSampler
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.models.losses.identity import Identity
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.training.methods.pooled import PooledMethod
from qaconv.training.methods.qaconv import QAConvMethod
from qaconv.training.methods.trained import TrainedMethod

SEED = 7
HELD_OUT = 4  # one of so many people
SITES = ("502", "503")
WEIGHTS = "mobilenet_v2.safetensors"
IMAGE = ImageConfig(height=192, width=64)
AUGMENT = {"pad": 10, "rotation_degrees": 0, "flip": 0.5, "colour_jitter": 0, "occlusion": 0.4}
TRAIN = {
    "amp": False,
    "freeze_batchnorm": True,
    "identities_per_batch": 8,
    "images_per_identity": 4,
    "epochs": 4,
    "lr": 0.02,
    "backbone_lr": 0.002,
    "weight_decay": 5e-4,
    "clip_norm": 8,
    "lr_drop_when_loss_below": 0,
    "lr_drop_by": "training_loss",
    "lr_drop_epoch": 3,
    "learnt_by_epoch": 100,
    "learnt_accuracy": 0,
}
ADAM = {
    "freeze_batchnorm": False,
    "identities_per_batch": 16,
    "optimiser": "adam",
    "lr_warm_up_epochs": 1,
    "lr": 3.5e-4,
    "backbone_lr": 3.5e-4,
    "clip_norm": 0,
}
ERASING = {"occlusion": 0, "erasing": 0.5}
JITTER = {"colour_jitter": 0.5}


@dataclass(frozen=True)
class Recipe:
    """What differs from QAConv without jitter.

    Attributes:
        pooled: whether it has the baseline's head and loss.
        layer: the backbone's last, of stride 16.
        augment: settings that differ.
        train: the same.
        triplet: whether the loss and the sampler are those of CVPR 2022.
    """

    pooled: bool = False
    layer: str = "layer3"
    augment: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    triplet: bool = False

    def method(self) -> TrainedMethod:
        """Return the settings."""
        backbone = {
            "name": "mobilenet_v2",
            "last_layer": self.layer,
            "last_stride": 1 if self.layer == "layer4" else 2,
            "neck_channels": "none" if self.pooled else 128,
            "weights": WEIGHTS,
            "normalise": "imagenet",
        }
        kind = PooledMethod if self.pooled else QAConvMethod
        return kind(
            image=IMAGE,
            backbone=BackboneConfig.model_validate(backbone),
            augment=AugmentConfig.model_validate(AUGMENT | dict(self.augment)),
            loss=Identity() if self.pooled else HardTriplet(pairwise_epochs=1) if self.triplet else PairwiseMatching(),
            sampler=GraphSampler() if self.triplet else PKSampler(),
            train=TrainConfig.model_validate(TRAIN | dict(self.train)),
            encode=EncodeConfig(flip=self.pooled),
        )


RECIPES = {
    "QAConv": Recipe(augment=JITTER),
    "QAConv, no jitter": Recipe(),
    "QAConv, full jitter": Recipe(augment={"colour_jitter": 1}),
    "QAConv, layer4": Recipe(layer="layer4"),
    "QAConv, triplet, graph sampler": Recipe(triplet=True, train={"epochs": 3, "lr_drop_epoch": 2}),  # of more images
    "baseline": Recipe(pooled=True, layer="layer4", augment=ERASING | JITTER, train=ADAM),
    "baseline, no jitter": Recipe(pooled=True, layer="layer4", augment=ERASING, train=ADAM),
}


def main(folder: Path, names: list[str]) -> None:
    """Train the recipes and print their table."""
    if unknown := [name for name in names if name not in RECIPES]:
        sys.exit(f"refused: unknown recipe {', '.join(unknown)}, allowed: {', '.join(RECIPES)}")
    torch.set_num_threads(1)
    source, held_out = split_people(market1501.read(folder, "market"))
    table = Table("recipe", "minutes", "other people", *SITES, title="rank-1 / mAP in per cent, direct")
    console = Console(soft_wrap=True, highlight=False)
    with TemporaryDirectory() as scratch:
        sites = [held_out, *(draw(name, Path(scratch), DRAWN[name]) for name in SITES)]
        for name in names or RECIPES:
            method = RECIPES[name].method()
            network = method.build(SEED)
            _, minutes = train_on(network, method, source, Path(scratch), seed=SEED)
            row = [name, f"{minutes:.1f}", *(rank(network, site) for site in sites)]
            logging.info(" | ".join(row))  # a killed run leaves what it has measured
            table.add_row(*row)
    console.print(f"{describe()['processor']}, 1 thread, seed {SEED}")
    console.print(table)


def split_people(market: Manifest) -> tuple[Manifest, Manifest]:
    """Return the images of those who are trained on, and those of the others: the first on each camera is a query."""
    rows = market.split("train")
    people = np.unique(rows["pid"])
    is_held_out = rows["pid"].isin(people[::HELD_OUT])
    others = rows[is_held_out]
    is_query = ~others.duplicated(["pid", "camid"])
    others = others.assign(split=np.where(is_query, "query", "gallery"))
    return replace(market, frame=rows[~is_held_out]), replace(market, frame=others)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.real_recipes FOLDER [NAME ...]")
    main(Path(sys.argv[1]), sys.argv[2:])
