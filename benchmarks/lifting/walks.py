"""Simulated walks with made-up looks go in; targets without pictures come out: two days, a million sightings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.metrics import evaluate_ranking
from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tlift import TLiftProfile, fit_profile

LOOKS = 24  # numbers that a person's looks are made of
NOISE = 1.5  # of one sighting, for each of them


@dataclass(frozen=True)
class Day:
    """N sightings, every fourth a query."""

    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    everything: NDArray[np.float64]

    @property
    def query(self) -> NDArray[np.bool_]:
        return np.arange(len(self.pids)) % 4 == 0

    @property
    def table(self) -> NDArray[np.float64]:
        """[Q, G] scores in [0, 1]."""
        return self.everything[np.ix_(self.query, ~self.query)]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """From all sightings of the day."""
        others = self.everything - 2 * np.eye(len(self.pids))
        indices = np.argsort(-others, axis=1, kind="stable")[:, :60]
        scores = np.take_along_axis(self.everything, indices, axis=1)
        return fit_profile(indices, scores, self.camids, self.times if times is None else times)

    def lift(self, profile: TLiftProfile) -> NDArray[np.float64]:
        """[Q, G]."""
        query = self.query
        sides = self.camids[query], self.times[query], self.camids[~query], self.times[~query]
        return profile.lift(self.table, *sides)

    def measure(self, scores: NDArray[np.float64]) -> float:
        """mAP in points."""
        query = self.query
        pids, camids = self.pids, self.camids
        found = evaluate_ranking(scores, pids[query], pids[~query], camids[query], camids[~query])
        return 100 * found.mean_average_precision


def two_days(seed: int) -> tuple[Day, Day]:
    """A day and the next one of a network, with other people."""
    walks = simulate(NetworkSettings(seed=seed, cameras=5, people=240, days=2))
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(240, LOOKS))
    seen = looks[walks["person"]] + NOISE * rng.normal(size=(len(walks), LOOKS))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    of = [np.flatnonzero(walks["day"] == day) for day in (0, 1)]
    pids, camids, times = (walks[name].to_numpy() for name in ("person", "camera", "clock_s"))
    first, second = (
        Day(pids[rows], camids[rows], times[rows], expit(12 * seen[rows] @ seen[rows].T - 6)) for rows in of
    )
    return first, second


@dataclass(frozen=True)
class Crowd:
    """N sightings and ten neighbours of each: five show its person, as far as drawn, and five anyone."""

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """From all sightings."""
        return fit_profile(self.indices, self.scores, self.camids, self.times if times is None else times)


def crowd(seed: int, cameras: int, people: int, sightings: int | None = None) -> Crowd:
    """The sightings of a day, or the first so many."""
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
