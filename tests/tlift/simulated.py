"""Sightings of the synthetic camera networks' walks, with made-up appearance scores: what a profile is fitted on."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from qaconv.synthetic.network import NetworkSettings, simulate


@dataclass(frozen=True)
class Sightings:
    """N sightings; pids are only for those who measure."""

    pids: np.ndarray
    camids: np.ndarray
    times: np.ndarray
    table: np.ndarray  # [N, N] in [0, 1]

    def neighbours(self, width=60):
        others = self.table - 2 * np.eye(len(self.table))
        indices = np.argsort(-others, axis=1, kind="stable")[:, :width]
        return indices, np.take_along_axis(self.table, indices, axis=1)

    def at(self, times):
        return replace(self, times=times)

    def permuted(self, seed=0):
        """The times of each camera dealt out anew."""
        rng, times = np.random.default_rng(seed), self.times.copy()
        for camid in np.unique(self.camids):
            mine = np.flatnonzero(self.camids == camid)
            times[mine] = times[rng.permutation(mine)]
        return self.at(times)


def simulated(seed=11, people=70, cameras=4, noise=0.33, days=1, day=0):
    """One of `days`: looks are unit vectors of 24 numbers with noise; the logit is 12 times the cosine, less 5."""
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
