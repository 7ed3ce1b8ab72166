"""Compare options of QAConv's recipe on drawn sites that are no target: schedule, averaged weights, augmentation, flip.

`python -m benchmarks.recipes` trains every option of OPTIONS, or those that are named, on site 501 with each of SEEDS,
and prints two rows for each: of the last weights, and of their average by `train.ema_decay` in the same training. Every
network is measured with and without `encode.flip`. Options that the project does not have, as they did not earn their
place, are written here.
"""

import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms import v2

from benchmarks.baseline import LARGE, NECK, SGD, SITES, SOURCE, draw, measure_map, recipe, train_on
from benchmarks.machine import describe
from qaconv.config import EncodeConfig, SiteConfig
from qaconv.data.manifest import Manifest
from qaconv.data.transforms import ERASED_RATIOS, ERASED_SHARES
from qaconv.models.checkpoint import Network
from qaconv.models.encoder import Encoder
from qaconv.models.losses.pairwise_matching import PairwiseMatching
from qaconv.models.mirroring import measure_shift
from qaconv.training.averaging import WeightAverage
from qaconv.training.methods.trained import TrainedMethod

SEEDS = (7, 8, 9)
EMA = {"ema_decay": 0.999}
DRAWN = SITES | {"503": SiteConfig(seed=503, cameras=6, people=90, distractors=60, junk=40)}


class NoiseErasing(nn.Module):
    """Fill a rectangle of an image with random bytes, with probability 0.5 (Zhong et al., AAAI 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self._erase = v2.RandomErasing(0.5, ERASED_SHARES, ERASED_RATIOS)

    def forward(self, image: Tensor) -> Tensor:
        noise = torch.randint(0, 256, image.shape, dtype=torch.uint8)
        erased = self._erase(torch.stack([image, torch.ones_like(image)]))[1]  # 0 inside the rectangle
        return torch.where(erased == 0, noise, image)


class MixStyle:
    """Mix each map's mean and deviation with another image's, with probability 0.5 (Zhou et al., ICLR 2021).

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor:
        if not module.training or self._rng.random() > 0.5:
            return maps
        share = torch.from_numpy(self._rng.beta(0.1, 0.1, (len(maps), 1, 1, 1)).astype(np.float32))
        order = torch.from_numpy(self._rng.permutation(len(maps)))
        mean = maps.mean((2, 3), keepdim=True).detach()
        deviation = (maps.var((2, 3), keepdim=True) + 1e-6).sqrt().detach()
        mixed_mean, mixed_deviation = (share * each + (1 - share) * each[order] for each in (mean, deviation))
        return (maps - mean) / deviation * mixed_deviation + mixed_mean


@dataclass(frozen=True)
class Option:
    """A recipe, and what is not a setting.

    Attributes:
        pooled: whether it is the pooled baseline's.
        size: height and width of images. Default: of the demo.
        train: settings that differ from the demo's.
        augment: the same.
        steps: further steps of the augmentation.
        mixes_styles: whether maps of layer1 have their styles mixed.
    """

    pooled: bool = False
    size: tuple[int, int] = LARGE
    train: Mapping[str, Any] = field(default_factory=dict)
    augment: Mapping[str, Any] = field(default_factory=dict)
    steps: Callable[[], list[nn.Module]] = list
    mixes_styles: bool = False

    def method(self) -> TrainedMethod:
        """Return the settings."""
        train = EMA | dict(self.train)
        if self.pooled:
            method = recipe(size=self.size, augment=self.augment, train=train)
        else:
            method = recipe(PairwiseMatching(), self.size, backbone=NECK, augment=self.augment, train=SGD | train)
        return method.model_copy(update={"encode": EncodeConfig(flip=True)})


SMALL = (64, 32)
COSINE = {"lr_schedule": "cosine", "lr_drop_epoch": 6}
OPTIONS = {
    "demo": Option(),
    "cosine": Option(train=COSINE),
    "pooled": Option(pooled=True),
    "pooled, cosine": Option(pooled=True, train=COSINE),
    "small": Option(size=SMALL),
    "small, cosine": Option(size=SMALL, train=COSINE),
    "small, erasing": Option(size=SMALL, augment={"erasing": 0.5}),
    "small, erasing with noise": Option(size=SMALL, steps=lambda: [NoiseErasing()]),
    "small, RandAugment": Option(size=SMALL, steps=lambda: [v2.RandAugment()]),
    "small, MixStyle": Option(size=SMALL, mixes_styles=True),
}


def main(names: list[str]) -> None:
    """Train the options and print their table."""
    if unknown := [name for name in names if name not in OPTIONS]:
        sys.exit(f"refused: unknown option {', '.join(unknown)}, allowed: {', '.join(OPTIONS)}")
    torch.set_num_threads(1)
    table = Table("option", "minutes", *DRAWN, title="mAP in per cent, direct: mean (each seed)", title_justify="left")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, 1 thread, seeds {', '.join(map(str, SEEDS))}")
    with TemporaryDirectory() as folder:
        sites = {name: draw(name, Path(folder), DRAWN[name]) for name in DRAWN}
        for name in names or OPTIONS:
            measured = [measure(OPTIONS[name], seed, sites, Path(folder)) for seed in SEEDS]
            minutes = np.mean([spent for spent, _ in measured])
            for row in measured[0][1]:
                figures = np.transpose([rows[row] for _, rows in measured])
                table.add_row(name + row, f"{minutes:.1f}", *map(_show, figures))
    console.print(table)


def measure(
    option: Option, seed: int, sites: Mapping[str, Manifest], folder: Path
) -> tuple[float, dict[str, list[float]]]:
    """Train an option.

    Returns:
        Processor minutes of the training; and the mAP of each site in per cent, of the last weights and of the averaged
        ones, without and with flip.
    """
    last: list[Network] = []
    end = WeightAverage.copy_to

    def keep_last(average: WeightAverage, network: Network) -> None:
        last.append(deepcopy(network))
        end(average, network)

    with patch.object(WeightAverage, "copy_to", keep_last):
        method = option.method()
        network = method.build(seed)
        assert isinstance(network.encoder, Encoder)
        if option.mixes_styles:
            mixing = network.encoder.trunk.get_submodule("layer1").register_forward_hook(MixStyle(seed))
        _, spent = train_on(network, method, sites[SOURCE], folder, seed=seed, steps=option.steps())
        if option.mixes_styles:
            mixing.remove()
    rows = {}
    for row, trained in (("", last[0]), (", averaged", network)):
        assert isinstance(trained.encoder, Encoder)
        for flip in (False, True):
            trained.encoder.shift = shift_of(trained) if flip else None
            figures = [100 * measure_map(trained, site).mean_average_precision for site in sites.values()]
            rows[row + (", flip" if flip else "")] = figures
    return spent, rows


def shift_of(network: Network) -> int:
    """Return how many locations the maps of mirrored images must move; a vector has one location."""
    assert isinstance(network.encoder, Encoder)
    image = network.architecture.image
    return 0 if network.head.width == 1 else measure_shift(network.encoder.trunk, image.height, image.width)


def _show(values: NDArray[np.float64]) -> str:
    return f"{np.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


if __name__ == "__main__":
    main(sys.argv[1:])
