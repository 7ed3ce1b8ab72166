"""Images of source people whom training never sees, and a network, go in; how well it tells them apart comes out.

Nothing of a target is needed, so a schedule may look at it, and a probability may be fitted on it.
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
        labels: [N], who is on each, across all sources.
        cameras: [N], where, across all sources.
        size: what the network sees.

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
        """mAP in [0, 1] of each image as a query among all of them; images of its person and camera do not count."""
        scores = self._scores(network, device, workers)
        return evaluate_ranking(scores, self.labels, self.labels, self.cameras, self.cameras).mean_average_precision

    def calibrate(self, network: Network, *, device: torch.device, workers: int) -> Calibration:
        """What a logit of this network is worth as evidence."""
        scores = self._scores(network, device, workers)
        seen = Sightings(scores, self.labels, self.labels, self.cameras, self.cameras)
        blocks = list(seen.pairs("drop"))
        return fit_calibration(*(np.concatenate(kind) for kind in zip(*blocks, strict=True)))

    def _scores(self, network: Network, device: torch.device, workers: int) -> NDArray[np.float32]:
        encode = in_torch(network.encoder, device)
        maps = encode_all(encode, self.paths, self.size, batch_size=BATCH_SIZE, workers=workers)
        return score_matrix(maps, maps, network.head, device=device)
