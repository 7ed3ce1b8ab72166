"""Compare recipes of the pooled baseline on drawn sites, each trained for about the processor time of QAConv's epochs.

`python -m benchmarks.baseline` trains every recipe of RECIPES, or those that are named, and prints a row for each. The
recipe was chosen by this table: neither site is a target of the demo.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from benchmarks.machine import describe
from qaconv.config import (
    AugmentConfig,
    BackboneConfig,
    ImageConfig,
    SiteConfig,
    TrainConfig,
)
from qaconv.config.kinds import LossSettings
from qaconv.data.layouts.market1501 import read
from qaconv.data.loading import Crops, encode_all, in_torch
from qaconv.data.manifest import JUNK, Manifest
from qaconv.data.samplers.pk import PKSampler
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.matching import score_matrix
from qaconv.metrics import RankingMetrics, evaluate_ranking
from qaconv.models.checkpoint import Network
from qaconv.models.head import QAConv
from qaconv.models.losses import Outcome
from qaconv.models.losses.identity import Identity
from qaconv.models.losses.pairs import hardest
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.synthetic.render import render_site
from qaconv.training import trainer
from qaconv.training.methods.pooled import PooledMethod
from qaconv.training.methods.qaconv import QAConvMethod
from qaconv.training.methods.trained import TrainedMethod

SOURCE, OTHER = "501", "502"
SITES = {
    SOURCE: SiteConfig(seed=501, cameras=6, people=220, train_share=0.7, distractors=20, junk=20),
    OTHER: SiteConfig(seed=502, cameras=5, people=90, distractors=60, junk=40),
}
LARGE = (96, 48)  # height and width; the other recipes use two thirds of it
CPU = torch.device("cpu")
SEED = 7
BACKBONE = {"name": "resnet18", "last_layer": "layer2", "neck_channels": "none", "weights": "none"}
AUGMENT = {"pad": 4, "rotation_degrees": 0, "flip": 0.5, "colour_jitter": 0.3, "occlusion": 0.3}
TRAIN = {
    "amp": False,
    "freeze_batchnorm": False,
    "identities_per_batch": 16,
    "images_per_identity": 4,
    "epochs": 6,
    "optimiser": "adam",
    "lr_warm_up_epochs": 1,
    "lr": 3e-3,
    "backbone_lr": 3e-3,
    "weight_decay": 5e-4,
    "clip_norm": 0,
    "lr_drop_when_loss_below": 0,
    "lr_drop_by": "training_loss",
    "lr_drop_epoch": 5,
    "learnt_by_epoch": 100,
    "learnt_accuracy": 0,
}
SGD: dict[str, Any] = {"optimiser": "sgd", "lr_warm_up_epochs": 0, "lr": 0.05, "backbone_lr": 0.05, "clip_norm": 8}


class EarlierIdentity(LossSettings):
    """The baseline's earlier loss: softmax of scaled cosines (NormFace), triplet of cosines, matching for the head."""

    kind: Literal["earlier_identity"] = "earlier_identity"
    needs_vectors: ClassVar[bool] = True

    def build(self, head: QAConv, people: int) -> nn.Module:
        """Build the loss for people 0..people-1."""
        return EarlierIdentityLoss(head, people)


class EarlierIdentityLoss(nn.Module):
    """Compute the earlier loss of vectors [B, 2, C], of which it reads those after the BNNeck."""

    def __init__(self, head: QAConv, people: int) -> None:
        super().__init__()
        self.matching = PairwiseMatching().build(head, people)
        self.prototypes = nn.Linear(head.channels, people, bias=False)

    def forward(self, vectors: Tensor, pids: Tensor) -> Outcome:
        """Compute the loss with the person indices `pids`, [B]."""
        units = F.normalize(vectors[:, 1], dim=1)
        softmax = F.cross_entropy(16 * units @ F.normalize(self.prototypes.weight, dim=1).T, pids)
        positive, negative = hardest(units @ units.T, pids)
        matching: Outcome = self.matching(units.detach()[:, :, None, None], pids)
        return Outcome(softmax + F.relu(0.3 - positive + negative).mean() + matching.loss, matching.accuracy)


def recipe(
    loss: LossSettings | None = None,
    size: tuple[int, int] = (64, 32),
    backbone: Mapping[str, Any] | None = None,
    augment: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
) -> TrainedMethod:
    """Return the demo's recipe of the baseline with changes."""
    loss = loss or Identity()
    kind = PooledMethod if loss.needs_vectors else QAConvMethod
    return kind(
        image=ImageConfig(height=size[0], width=size[1]),
        backbone=BackboneConfig.model_validate({**BACKBONE, **(backbone or {})}),
        augment=AugmentConfig.model_validate(AUGMENT | dict(augment or {})),
        loss=loss,
        sampler=PKSampler(),
        train=TrainConfig.model_validate({**TRAIN, **(train or {})}),
    )


NECK = {"neck_channels": 64}
SLOW = {"lr": 1e-3, "backbone_lr": 1e-3}
RECIPES = {
    "QAConv": recipe(PairwiseMatching(), backbone=NECK, train=SGD),
    "before": recipe(EarlierIdentity(), backbone=NECK, train=SGD),
    "before, Adam": recipe(EarlierIdentity(), backbone=NECK),
    "baseline": recipe(),
    "SGD": recipe(train={**SGD, "lr_warm_up_epochs": 1, "clip_norm": 0}),
    "neck of 64": recipe(backbone=NECK),
    "rate 0.001": recipe(train=SLOW),
    "erasing 0.5": recipe(augment={"erasing": 0.5}),
    "large": recipe(size=LARGE),
    "large, rate 0.001": recipe(size=LARGE, train=SLOW),
    "large, rate 0.001, layer3": recipe(
        size=LARGE, backbone={"last_layer": "layer3"}, train={**SLOW, "epochs": 5, "lr_drop_epoch": 4}
    ),
    "large, layer4": recipe(
        size=LARGE, backbone={"last_layer": "layer4", "last_stride": 1}, train={"epochs": 2, "lr_drop_epoch": 2}
    ),
}


def main(names: list[str]) -> None:
    """Train the recipes and print their table."""
    if unknown := [name for name in names if name not in RECIPES]:
        sys.exit(f"refused: unknown recipe {', '.join(unknown)}, allowed: {', '.join(RECIPES)}")
    torch.set_num_threads(1)
    columns = ("recipe", "epochs", "images", "minutes", "last epoch matched", "in domain", "other site")
    table = Table(*columns, title="rank-1 / mAP in per cent, direct", title_justify="left")
    with TemporaryDirectory() as folder:
        sites = {name: draw(name, Path(folder), SITES[name]) for name in SITES}
        for name in names or RECIPES:
            table.add_row(name, *measure(name, sites, Path(folder)))
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, 1 thread")
    console.print(table)


def draw(name: str, folder: Path, site: SiteConfig) -> Manifest:
    """Render a site below a folder."""
    render_site(site, folder / name, processes=2)
    return read(folder / name, name)


def measure(name: str, sites: Mapping[str, Manifest], folder: Path) -> list[str]:
    """Train a recipe on the source, and return the cells of its row."""
    method = RECIPES[name]
    network = method.build(SEED)
    history, minutes = train_on(network, method, sites[SOURCE], folder, seed=SEED)
    images = len(history) * len(training_images(sites[SOURCE]))
    figures = [rank(network, site) for site in sites.values()]
    return [str(len(history)), f"{images:,}", f"{minutes:.1f}", f"{history['accuracy'].iloc[-1]:.0%}", *figures]


def training_images(source: Manifest) -> pd.DataFrame:
    """Return the images of a site that are trained on."""
    return source.frame[(source.frame["split"] == "train") & (source.frame["pid"] != JUNK)]


def train_on(
    network: Network,
    method: TrainedMethod,
    source: Manifest,
    folder: Path,
    *,
    seed: int,
    steps: Sequence[nn.Module] = (),
) -> tuple[pd.DataFrame, float]:
    """Train a network on a site, and return the history and the processor minutes.

    Args:
        network: trained in place.
        method: its settings.
        source: the site.
        folder: of the state, which nobody resumes.
        seed: of the training.
        steps: of the augmentation, after those of the settings. Default: none.
    """
    rows = training_images(source)
    labels = np.unique(rows["pid"], return_inverse=True)[1].tolist()
    paths = [source.root / image for image in rows["image"]]
    augmentation = v2.Compose([*build_augmentation(method.augment, method.image).transforms, *steps])
    state = folder / "state.pt"
    state.unlink(missing_ok=True)
    started = process_time()
    history = trainer.train(
        network,
        TrainingCrops(Crops(paths, method.image), labels, augmentation),
        np.array([SOURCE] * len(paths)),
        rows["camid"].to_numpy(),
        method.train,
        method,
        holdout=None,
        seed=seed,
        device=CPU,
        workers=0,
        checkpoint_every_steps=1000,
        state_path=state,
        fingerprint="",
    )
    return history, (process_time() - started) / 60


def rank(network: Network, site: Manifest) -> str:
    """Return the rank-1 and mAP of a site."""
    metrics = measure_map(network, site)
    return f"{100 * metrics.cmc[0]:.1f} / {100 * metrics.mean_average_precision:.1f}"


def measure_map(network: Network, site: Manifest) -> RankingMetrics:
    """Rank a site's gallery for each of its queries."""
    query, gallery = site.split("query"), site.split("gallery")
    encode = in_torch(network.encoder, CPU)
    query_maps, gallery_maps = (
        encode_all(
            encode, [site.root / image for image in part["image"]], network.architecture.image, batch_size=64, workers=0
        )
        for part in (query, gallery)
    )
    scores = score_matrix(query_maps, gallery_maps, network.head, device=CPU)
    return evaluate_ranking(scores, query["pid"], gallery["pid"], query["camid"], gallery["camid"])


if __name__ == "__main__":
    main(sys.argv[1:])
