"""Measure what lifting gains on a prepared target, in mAP points."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.data.manifest import JUNK, Manifest
from qaconv.matching.results import Matches
from qaconv.metrics import evaluate_ranking
from qaconv.paths import PREPARED
from qaconv.tables import as_scores
from qaconv.tlift import TLiftProfile, fit_profile, temporal_lift
from qaconv.tlift.lifted_scores import ScoreKind
from qaconv.tlift.parameters import LiftParameters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RANKINGS: tuple[ScoreKind, ...] = ("direct", "reranked")


@dataclass(frozen=True)
class Site:
    """Sightings of a target and their matches by one model: N sightings, Q queries first; only `measure` reads pids."""

    name: str
    method: str
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    times: NDArray[np.float64]
    matches: Matches

    @property
    def queries(self) -> int:
        return int(self.matches.logits.shape[0])

    def table(self, ranking: ScoreKind) -> NDArray[np.floating]:
        """Return scores [Q, G] in [0, 1]."""
        direct = ranking == "direct"
        return expit(self.matches.logits[:].astype(np.float64)) if direct else self.matches.reranked[:]

    def split(self, times: NDArray[np.float64] | None = None) -> tuple[Ints, Floats, Ints, Floats]:
        """Return query camids and times, gallery camids and times."""
        queries = self.queries
        times = self.times if times is None else times
        return self.camids[:queries], times[:queries], self.camids[queries:], times[queries:]

    def fit(self, times: NDArray[np.float64] | None = None) -> TLiftProfile:
        """Fit a profile to all sightings."""
        return fit_profile(
            self.matches.neighbours,
            as_scores(self.matches.neighbour_logits),
            self.camids,
            self.times if times is None else times,
            reranked=self.matches.nearest_reranked(),
            target=self.name,
        )

    def measure(self, scores: NDArray[np.floating], *, same_camera: bool = True) -> float:
        """Return mAP in points.

        Args:
            scores: [Q, G].
            same_camera: whether images of the query's own camera compete; otherwise they rank last. Default: True.
        """
        queries = self.queries
        table = np.asarray(scores, dtype=np.float64)
        if not same_camera:
            same = self.camids[:queries, None] == self.camids[queries:]
            table = np.where(same, table.min() - 1, table)
        pids, camids = self.pids, self.camids
        metrics = evaluate_ranking(table, pids[:queries], pids[queries:], camids[:queries], camids[queries:])
        return 100 * metrics.mean_average_precision


def load_site(name: str, method: str) -> Site:
    """Load a target that `dvc repro rerank` has matched."""
    frame = Manifest.load(PREPARED / name).sightings()
    queries = int((frame["split"] == "query").sum())
    pids = frame["pid"].to_numpy()
    assert (pids[:queries] != JUNK).all()
    matches = Matches.load(name, method)
    return Site(name, method, pids, frame["camid"].to_numpy(), frame["time_s"].to_numpy(), matches)


def lifted(site: Site, profile: TLiftProfile, ranking: ScoreKind, times: Floats | None = None) -> Floats:
    """Lift scores by a profile, [Q, G]."""
    return profile.lift(site.table(ranking), *site.split(times), ranking=ranking)


def paper(site: Site, ranking: ScoreKind, times: Floats | None = None) -> Floats:
    """Lift scores by TLift with the paper's parameters, [Q, G]."""
    return temporal_lift(site.table(ranking), *site.split(times))


def best_of_grid(site: Site, profile: TLiftProfile, ranking: ScoreKind) -> tuple[float, LiftParameters]:
    """Return the best mAP that labels find for the same formula, and its parameters."""

    def measured(parameters: LiftParameters) -> float:
        return site.measure(lifted(site, replace(profile, active=True, parameters=parameters), ranking))

    return max(((measured(parameters), parameters) for parameters in _grid()), key=lambda pair: pair[0])


def _grid() -> Iterator[LiftParameters]:
    for weight, alpha in product((0.5, 0.7, 1.0, 1.4, 2.0), (0.2, 1.0, 5.0)):
        for tau, sigma in product((30.0, 100.0), (10.0, 200.0)):
            yield LiftParameters(tau, sigma, 10, alpha, weight)
