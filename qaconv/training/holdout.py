"""Measure and calibrate a network on source people that training does not see.

These people are not a target's, so the schedule may watch them and probabilities may be fitted on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from qaconv.config import ImageConfig
from qaconv.data.loading import encode_all, in_torch
from qaconv.errors import InputError
from qaconv.files import read_file
from qaconv.matching import score_matrix
from qaconv.metrics import Calibration, evaluate_ranking, fit_calibration
from qaconv.metrics.sightings import Sightings
from qaconv.models.checkpoint import Network
from qaconv.paths import SOURCES

BATCH_SIZE = 256


@dataclass(frozen=True)
class Holdout:
    """Images of people held out of the training, each of which is matched with every other image.

    Attributes:
        paths: file of each image, [N].
        labels: person index of each image, [N], unique across sources.
        cameras: camera index of each image, [N], unique across sources.
        size: size of the network's input.

    Raises:
        InputError: there are fewer than two people, or none of them is on two cameras.
    """

    paths: Sequence[Path]
    labels: NDArray[np.int64]
    cameras: NDArray[np.int64]
    size: ImageConfig

    def __post_init__(self) -> None:
        seen = np.unique(np.stack([self.labels, self.cameras]), axis=1)
        people = np.unique(seen[0])
        if len(people) < 2 or len(people) == seen.shape[1]:
            raise InputError(
                "params.yaml: sources.holdout_share must be 0 or hold out at least two people, one of them on two "
                f"cameras, got {len(people)} people and {seen.shape[1] - len(people)} more cameras; raise it"
            )

    def mean_average_precision(self, network: Network, *, device: torch.device, workers: int) -> float:
        """Compute the mAP in [0, 1] of each image as a query; images of its person on its camera are left out."""
        scores = self._scores(network, device, workers)
        return evaluate_ranking(scores, self.labels, self.labels, self.cameras, self.cameras).mean_average_precision

    def calibrate(self, network: Network, *, device: torch.device, workers: int) -> Calibration:
        """Fit the probability of "same person" for a logit of this network."""
        scores = self._scores(network, device, workers)
        seen = Sightings(scores, self.labels, self.labels, self.cameras, self.cameras)
        blocks = list(seen.pairs("drop"))
        return fit_calibration(*(np.concatenate(kind) for kind in zip(*blocks, strict=True)))

    def fit_head(self, network: Network, *, device: torch.device, workers: int) -> None:
        """Scale and shift a head that the loss has not trained, so that its logits are log odds at even odds."""
        fitted = self.calibrate(network, device=device, workers=workers)
        if fitted.scale:  # 0 would make all logits equal; it is fitted if matches do not score higher
            network.head.rescale(fitted.scale, fitted.offset)

    def _scores(self, network: Network, device: torch.device, workers: int) -> NDArray[np.float32]:
        encode = in_torch(network.encoder, device)
        maps = encode_all(encode, self.paths, self.size, batch_size=BATCH_SIZE, workers=workers)
        return score_matrix(maps, maps, network.head, device=device)


def read_holdout(size: ImageConfig) -> Holdout | None:
    """Read the people held out of data/sources. None if there are none.

    Args:
        size: of the network's images.

    Raises:
        InputError: the table cannot be read, or holds too few people.
    """
    table = read_file(pd.read_parquet, SOURCES / "holdout.parquet")
    if table.empty:
        return None
    return Holdout(
        [Path(path) for path in table["path"]],
        table["label"].to_numpy().astype(np.int64),
        table.groupby(["domain", "camid"]).ngroup().to_numpy().astype(np.int64),
        size,
    )
