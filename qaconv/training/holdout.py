"""Measure and calibrate a network on source people that training does not see.

No target is needed, so the schedule may watch this, and probabilities may be fitted on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.config import ImageConfig
from qaconv.data.loading import encode_all, in_torch
from qaconv.errors import InputError
from qaconv.matching import score_matrix
from qaconv.metrics import Calibration, evaluate_ranking, fit_calibration
from qaconv.metrics.sightings import Sightings
from qaconv.models.checkpoint import Network

BATCH_SIZE = 256


@dataclass(frozen=True)
class Holdout:
    """Images of some people, each matched with every other image.

    Attributes:
        paths: [N].
        labels: person index of each image, [N], unique across sources.
        cameras: camera index of each image, [N], unique across sources.
        size: size of the network's input.

    Raises:
        InputError: there are not two people of whom one is on two cameras.
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
                f"params.yaml: train.holdout_share holds {len(people)} people back, "
                f"{seen.shape[1] - len(people)} of them on a second camera; legal is two people or more, one of them "
                "on two cameras (a larger share), or 0"
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

    def _scores(self, network: Network, device: torch.device, workers: int) -> NDArray[np.float32]:
        encode = in_torch(network.encoder, device)
        maps = encode_all(encode, self.paths, self.size, batch_size=BATCH_SIZE, workers=workers)
        return score_matrix(maps, maps, network.head, device=device)
