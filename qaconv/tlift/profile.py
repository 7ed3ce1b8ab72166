"""What one target's times allow one model: written once, checked when loaded, applied to scores.

Q queries, G gallery images; q and g of them on one pair of cameras.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.clock_checks import ClockMend, Finding, mend_times
from qaconv.tlift.lift import check_tables, find_neighbours, find_pivots, time_weights
from qaconv.tlift.transit import BIN, SCALE

VERSION = 2
Ranking = Literal["direct", "reranked"]
Floats = NDArray[np.float64]
TINY = 1e-300


@dataclass(frozen=True)
class LiftParameters:
    """How much time counts.

    Attributes:
        tau_s: neighbours of a query are within this many seconds.
        sigma_s: seconds; width of TLift's time weight.
        top_k: pivots on each gallery camera.
        alpha: what TLift leaves where companions give no support; large is hardly any TLift.
        transit_weight: exponent of the transit times' likelihood ratio; 0 is none.
    """

    tau_s: float = 100.0
    sigma_s: float = 200.0
    top_k: int = 10
    alpha: float = 0.2
    transit_weight: float = 0.0


@dataclass(frozen=True)
class TransitTable:
    """Log likelihood ratios of gaps, for each two cameras a < b in the order of `combinations`.

    Attributes:
        centres: seconds on b's clock minus a's; None for two cameras that no match joins, which stay neutral.
        reach: the outer edges on the axis asinh((gap - centre) / SCALE).
        log_ratio: by bin: log of transit density / chance density.
    """

    centres: Sequence[float | None] = ()
    reach: float = 0.0
    log_ratio: Sequence[Sequence[float]] = ()

    def __call__(self, pair: int, gaps: Floats) -> Floats:
        """Log likelihood ratio of gaps of one pair of cameras."""
        centre = self.centres[pair]
        if centre is None:
            return np.zeros_like(gaps)
        values = np.asarray(self.log_ratio[pair])
        at = (np.arcsinh((gaps - centre) / SCALE) + self.reach) / BIN - 0.5
        at = np.clip(at, 0, len(values) - 1.000001)
        below = at.astype(np.intp)
        return values[below] + (at - below) * np.diff(values)[below]


@dataclass(frozen=True)
class TLiftProfile:
    """Temporal lifting for one camera network and one model.

    Attributes:
        target: the camera network.
        model: digest of the network whose scores it is for; empty where none was named.
        sightings: digest of what it was fitted on.
        span_s: first and last time that it was fitted on.
        camids: its cameras; others are refused.
        active: whether times are used at all; if not, `lift` gives the scores back.
        reason: why so, for people.
        parameters: how much time counts.
        transit: transit times.
        calibrations: from a score to log odds, by kind of ranking; a kind without one takes the score as it is.
        clocks: cameras whose times are mended.
        findings: what was found about the clocks.
        evidence: the curves and gains that all this rests on.
    """

    target: str
    camids: tuple[int, ...]
    active: bool
    reason: str
    model: str = ""
    sightings: str = ""
    span_s: tuple[float, float] | None = None
    parameters: LiftParameters = LiftParameters()
    transit: TransitTable = TransitTable()
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    clocks: Mapping[int, ClockMend] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def lift(
        self,
        scores: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        *,
        ranking: Ranking = "direct",
    ) -> Floats:
        """Lifted scores [Q, G]: (weight + alpha) * odds(score) * (transit / chance) ** transit_weight.

        The weight is TLift's, with pivots chosen by odds and transit times together. Gallery images of the query's own
        camera, and those without a time, get the geometric mean of the factors that time gives the row's others.

        Args:
            scores: [Q, G] in [0, 1].
            query_camids: [Q].
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.
            ranking: what the scores are: sigmoid(logit), or 1 - the re-ranked distance.

        Raises:
            InputError: a camera that the profile does not know.
            ValueError: shapes do not fit, or a score is not a number.
        """
        table = np.asarray(scores, dtype=np.float64)
        query_camids, gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
        query_times, gallery_times = np.asarray(query_times, np.float64), np.asarray(gallery_times, np.float64)
        check_tables(table, query_camids, np.nan_to_num(query_times), gallery_camids, np.nan_to_num(gallery_times))
        self._refuse_unknown(query_camids=query_camids, gallery_camids=gallery_camids)
        if not self.active:
            return table.copy()
        calibration = self.calibrations.get(ranking)
        lifted = calibration(table) if calibration else np.log(np.maximum(table, TINY))
        query_times = mend_times(self.clocks, query_camids, query_times)
        gallery_times = mend_times(self.clocks, gallery_camids, gallery_times)
        total, seen = np.zeros(len(table)), np.zeros(len(table))
        neutral = np.ones(lifted.shape, dtype=bool)
        for gallery_camid in np.unique(gallery_camids):
            found = np.flatnonzero((gallery_camids == gallery_camid) & ~np.isnan(gallery_times))
            for query_camid in np.unique(query_camids[query_camids != gallery_camid]):
                asked = np.flatnonzero((query_camids == query_camid) & ~np.isnan(query_times))
                if not len(found) or not len(asked):
                    continue
                pair = np.ix_(asked, found)
                times = query_times[asked], gallery_times[found]
                factors = self._log_factors(lifted[pair], *times, int(query_camid), int(gallery_camid))
                lifted[pair] += factors
                total[asked] += factors.sum(axis=1)
                seen[asked] += len(found)
                neutral[pair] = False
        mean = np.divide(total, seen, out=np.zeros_like(total), where=seen > 0)
        lifted += np.where(neutral, mean[:, None], 0.0)
        return np.exp(lifted, out=lifted)

    def _log_factors(
        self, log_odds: Floats, query_times: Floats, gallery_times: Floats, query_camid: int, gallery_camid: int
    ) -> Floats:
        """Log of (weight + alpha) * (transit / chance) ** transit_weight, [q, g], on two cameras."""
        chosen, factors = self.parameters, np.zeros(log_odds.shape)
        if chosen.transit_weight:
            sign = 1.0 if query_camid < gallery_camid else -1.0
            number = self._pair_numbers[min(query_camid, gallery_camid), max(query_camid, gallery_camid)]
            gaps = sign * (gallery_times - query_times[:, None])
            factors += chosen.transit_weight * self.transit(number, gaps)
        neighbours = find_neighbours(np.full(len(query_times), query_camid), query_times, tau=chosen.tau_s)
        pivots = find_pivots(log_odds + factors, neighbours, top_k=chosen.top_k)
        weights = time_weights(pivots, gallery_times, chosen.sigma_s) + chosen.alpha
        return factors + np.log(np.maximum(weights, TINY))

    @property
    def _pair_numbers(self) -> dict[tuple[int, int], int]:
        return {pair: number for number, pair in enumerate(combinations(sorted(self.camids), 2))}

    def _refuse_unknown(self, **tables: NDArray) -> None:
        for name, camids in tables.items():
            unknown = sorted(set(camids.tolist()) - set(self.camids))
            if unknown:
                raise InputError(f"{name}: cameras {unknown} are not in {self.target}'s profile: {list(self.camids)}")

    def save(self, path: Path) -> None:
        """Writes JSON."""
        write_json(path, {"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path, *, model: str | None = None) -> "TLiftProfile":
        """Reads what `save` wrote.

        Args:
            path: the file.
            model: digest of the network whose scores will be lifted; None does not check.

        Raises:
            InputError: no file, not a profile of this version, or fitted for another model.
        """
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = values.pop("version")
            if version != VERSION:
                raise InputError(
                    f"{path}: is a profile of version {version}; this code reads {VERSION}; "
                    "`dvc repro fit_tlift` writes it anew"
                )
            if "deployment" in values:  # the name that version 2 had for it until 0.1.0
                values["target"] = values.pop("deployment")
            profile = cls(**_typed(values))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: is no TLift profile: {error!r}; `dvc repro fit_tlift` writes it") from error
        if model is not None and profile.model != model:
            raise InputError(
                f"{path}: was fitted for the model {profile.model[:12] or 'of no name'}, not for {model[:12]}; "
                "legal is the model it was fitted for: `dvc repro fit_tlift` fits it anew"
            )
        return profile


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists and objects as the profile's own types."""
    span = values["span_s"]
    return {
        **values,
        "camids": tuple(values["camids"]),
        "span_s": None if span is None else (span[0], span[1]),
        "parameters": LiftParameters(**values["parameters"]),
        "transit": TransitTable(**values["transit"]),
        "calibrations": {name: Calibration(**each) for name, each in values["calibrations"].items()},
        "clocks": {int(camid): ClockMend(**each) for camid, each in values["clocks"].items()},
        "findings": tuple(Finding(**each) for each in values["findings"]),
    }
