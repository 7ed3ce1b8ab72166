"""Simulate targets without images: walks with made-up appearance, of two days or a million sightings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.metrics import evaluate_ranking
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tlift import TLiftProfile, fit_profile

LOOKS = 24  # numbers of a person's appearance
NOISE = 1.5  # standard deviation of one sighting in each number


@dataclass(frozen=True)
class Day:
    """N sightings, every fourth a query."""

    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    everything: NDArray[np.float64]

    @property
    def query(self) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = np.arange(len(self.pids)) % 4 == 0
        return mask

    @property
    def table(self) -> NDArray[np.float64]:
        """Scores [Q, G] in [0, 1]."""
        return self.everything[np.ix_(self.query, ~self.query)]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """Fit a profile to all sightings of the day."""
        others = self.everything - 2 * np.eye(len(self.pids))
        indices = np.argsort(-others, axis=1, kind="stable")[:, :60]
        scores = np.take_along_axis(self.everything, indices, axis=1)
        return fit_profile(indices, scores, self.camids, self.times if times is None else times)

    def lift(self, profile: TLiftProfile) -> NDArray[np.float64]:
        """Lift the scores, [Q, G]."""
        query = self.query
        sides = self.camids[query], self.times[query], self.camids[~query], self.times[~query]
        return profile.lift(self.table, *sides)

    def measure(self, scores: NDArray[np.float64]) -> float:
        """Return mAP in points."""
        query = self.query
        pids, camids = self.pids, self.camids
        metrics = evaluate_ranking(scores, pids[query], pids[~query], camids[query], camids[~query])
        return 100 * metrics.mean_average_precision


def two_days(seed: int) -> tuple[Day, Day]:
    """Draw two days of a network, with different people."""
    walks = simulate(NetworkSettings(seed=seed, cameras=5, people=240, days=2))
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(240, LOOKS))
    seen = looks[walks["person"]] + NOISE * rng.normal(size=(len(walks), LOOKS))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    rows_by_day = [np.flatnonzero(walks["day"] == day) for day in (0, 1)]
    pids, camids, times = (walks[name].to_numpy() for name in ("person", "camera", "clock_s"))
    first, second = (
        Day(pids[rows], camids[rows], times[rows], expit(12 * seen[rows] @ seen[rows].T - 6)) for rows in rows_by_day
    )
    return first, second


@dataclass(frozen=True)
class Crowd:
    """N sightings and ten neighbours of each: five of its person and five of anyone."""

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """Fit a profile to all sightings."""
        return fit_profile(self.indices, self.scores, self.camids, self.times if times is None else times)


def crowd(seed: int, cameras: int, people: int, sightings: int | None = None) -> Crowd:
    """Draw the sightings of a day, or the first `sightings` of them."""
    walks = simulate(NetworkSettings(seed=seed, cameras=cameras, people=people)).iloc[:sightings]
    rng, count = np.random.default_rng(seed), len(walks)
    pids = walks["person"].to_numpy()
    first, seen = np.searchsorted(pids, pids), np.bincount(pids)[pids]
    near = first[:, None] + rng.integers(0, seen[:, None], (count, 5))
    indices = np.concatenate([near, rng.integers(0, count, (count, 5))], axis=1)
    same = pids[indices] == pids[:, None]
    scores = expit(rng.normal(np.where(same, 1.0, -1.0), 1.0))
    order = np.argsort(-scores, axis=1)
    indices, scores = (np.take_along_axis(table, order, axis=1) for table in (indices, scores))
    return Crowd(indices, scores, walks["camera"].to_numpy(), walks["clock_s"].to_numpy())
