"""Simulate sightings of the synthetic camera networks' walks, with made-up appearance scores."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.synthetic.network import NetworkSettings, simulate


@dataclass(frozen=True)
class Sightings:
    """N sightings; only metrics read the pids."""

    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    table: NDArray[np.float64]  # [N, N] in [0, 1]

    def neighbours(self, width: int = 60) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return indices and scores of each sighting's nearest others, best first."""
        others = self.table - 2 * np.eye(len(self.table))
        indices = np.argsort(-others, axis=1, kind="stable")[:, :width]
        return indices, np.take_along_axis(self.table, indices, axis=1)

    def at(self, times: NDArray[np.float64]) -> "Sightings":
        """Return the sightings with other times."""
        return replace(self, times=times)

    def permuted(self, seed: int = 0) -> "Sightings":
        """Permute the times of each camera."""
        rng, times = np.random.default_rng(seed), self.times.copy()
        for camid in np.unique(self.camids):
            rows = np.flatnonzero(self.camids == camid)
            times[rows] = times[rng.permutation(rows)]
        return self.at(times)


def simulated(
    seed: int = 11, people: int = 70, cameras: int = 4, noise: float = 0.33, days: int = 1, day: int = 0
) -> Sightings:
    """Simulate one of `days`; looks are unit vectors of 24 numbers with noise, logits 12 times the cosine less 5."""
    walks = simulate(NetworkSettings(seed=seed, cameras=cameras, people=people, days=days)).query("day == @day")
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(people, 24))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    seen = looks[walks["person"]] + noise / np.sqrt(2) * rng.normal(size=(len(walks), 24))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return Sightings(
        walks["person"].to_numpy(),
        walks["camera"].to_numpy(),
        walks["clock_s"].to_numpy(),
        expit(12 * seen @ seen.T - 5),
    )
