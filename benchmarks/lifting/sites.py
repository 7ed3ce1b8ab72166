"""A prepared target and a trained network go in; its scores come out, and what lifting gains, in mAP points."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from benchmarks.demo import require_outputs
from qaconv.config import load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.matching.results import Matches
from qaconv.metrics import evaluate_ranking
from qaconv.paths import MATCHES, PREPARED, RERANKED
from qaconv.tlift import TLiftProfile, fit_profile, temporal_lift
from qaconv.tlift.profile import LiftParameters, ScoreKind

RANKINGS: tuple[ScoreKind, ...] = ("direct", "reranked")


@dataclass(frozen=True)
class Site:
    """A target as one model sees it: N sightings, Q queries first; pids are read by `measure` alone."""

    name: str
    method: str
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    matches: Matches

    @property
    def queries(self) -> int:
        return len(self.matches.logits)

    def table(self, ranking: ScoreKind) -> NDArray[np.floating]:
        """[Q, G] scores in [0, 1]."""
        direct = ranking == "direct"
        return expit(self.matches.logits.astype(np.float64)) if direct else self.matches.reranked

    def split(self, times: NDArray[np.float64] | None = None) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Query camids and times, gallery camids and times."""
        times, at = self.times if times is None else times, self.queries
        return self.camids[:at], times[:at], self.camids[at:], times[at:]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """A profile from all sightings."""
        return fit_profile(
            self.matches.neighbours,
            expit(self.matches.neighbour_logits),
            self.camids,
            self.times if times is None else times,
            reranked=self.matches.nearest_reranked(),
            target=self.name,
        )

    def measure(self, scores: NDArray, *, same_camera: bool = True, asked: NDArray[np.bool_] | None = None) -> float:
        """mAP in points; with same-camera images left out they rank last; only some queries where `asked`."""
        at = self.queries
        table = np.asarray(scores, dtype=np.float64)
        if not same_camera:
            same = self.camids[:at, None] == self.camids[at:]
            table = np.where(same, table.min() - 1, table)
        found = evaluate_ranking(table, self.pids[:at], self.pids[at:], self.camids[:at], self.camids[at:])
        return 100 * found.mean_average_precision


def load_site(name: str, method: str) -> Site:
    """A target, once `dvc repro rerank` has matched it."""
    require_outputs((PREPARED / name, MATCHES / name, RERANKED / name))
    frame = Manifest.load(PREPARED / name).sightings()
    queries = int((frame["split"] == "query").sum())
    pids = frame["pid"].to_numpy()
    assert (pids[:queries] != JUNK).all()
    matches = Matches.load(name, method, load_params().evaluate.parts)
    return Site(name, method, pids, frame["camid"].to_numpy(), frame["time_s"].to_numpy(), matches)


def lifted(site: Site, profile: TLiftProfile, ranking: ScoreKind, times: NDArray | None = None) -> NDArray:
    """[Q, G] by a profile."""
    return profile.lift(site.table(ranking), *site.split(times), ranking=ranking)


def paper(site: Site, ranking: ScoreKind, times: NDArray | None = None) -> NDArray:
    """[Q, G] by TLift with the paper's parameters."""
    return temporal_lift(site.table(ranking), *site.split(times))


def best_of_grid(site: Site, profile: TLiftProfile, ranking: ScoreKind) -> tuple[float, LiftParameters]:
    """The best mAP that labels find for the same formula, and its parameters."""

    def measured(parameters: LiftParameters) -> float:
        return site.measure(lifted(site, replace(profile, active=True, parameters=parameters), ranking))

    return max(((measured(each), each) for each in _grid()), key=lambda pair: pair[0])


def _grid() -> Iterator[LiftParameters]:
    for weight, alpha in product((0.5, 0.7, 1.0, 1.4, 2.0), (0.2, 1.0, 5.0)):
        for tau, sigma in product((30.0, 100.0), (10.0, 200.0)):
            yield LiftParameters(tau, sigma, 10, alpha, weight)
