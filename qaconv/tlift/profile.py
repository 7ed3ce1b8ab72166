"""Define the temporal profile of a target, and lift scores by it.

Q queries, G gallery images; q and g of them on one pair of cameras.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.tables import ComputedTable, Rows, Table
from qaconv.times import DATE, parse_date
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.clock_checks import ClockCorrection, correct_times
from qaconv.tlift.findings import Finding
from qaconv.tlift.lift import check_tables
from qaconv.tlift.lifted_scores import Lift, ScoreKind, camera_pairs
from qaconv.tlift.parameters import LiftParameters
from qaconv.tlift.probability import GallerySize, MatchOdds, probability
from qaconv.tlift.profile_file import VERSION, read_profile
from qaconv.tlift.return_times import ReturnTimes
from qaconv.tlift.transit import TransitTable, pair_numbers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TLiftProfile:
    """Fitted temporal lifting for one target and one model.

    Attributes:
        target: the camera network.
        model: digest of the network whose scores it lifts; empty where it is unknown.
        sightings: digest of the sightings that it was fitted on.
        span_s: first and last time that it was fitted on, in seconds.
        camids: cameras of the target.
        active: whether times are used; if not, `lift` returns the scores unchanged.
        reason: why times are used or not, for people.
        parameters: how much times count.
        transit: transit times.
        calibrations: curve from score to log odds of a match, for each kind of score. Without one the score itself
            counts as odds.
        match_odds: odds that a pair shows one person. None: times are not used, or the file is of 0.1.0 or before;
            then nothing is known about probabilities on this target.
        clocks: clock correction of each camera.
        findings: faults of clocks.
        evidence: gains and curves that the fit rests on.
        cameras: name of each camera by camid; empty where cameras are numbers.
        time_origin: UNIX_EPOCH where times are dates; empty where they are seconds on the cameras' clocks.
        return_times: how long after a sighting the same camera sees a person again.

    Example:
        >>> profile = TLiftProfile("mall", (0, 1), active=False, reason="no times")
        >>> profile.lift([[0.5, 0.25]], [0], [10.0], [1, 1], [20.0, 30.0])
        array([[0.5 , 0.25]])
    """

    target: str
    camids: tuple[int, ...]
    active: bool
    reason: str
    model: str = ""
    sightings: str = ""
    span_s: tuple[float, float] | None = None
    parameters: LiftParameters = field(default_factory=LiftParameters)
    transit: TransitTable = field(default_factory=TransitTable)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    match_odds: MatchOdds | None = None
    clocks: Mapping[int, ClockCorrection] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)
    time_origin: str = ""
    return_times: ReturnTimes = field(default_factory=ReturnTimes)

    def lift(
        self,
        scores: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        *,
        ranking: ScoreKind = "direct",
    ) -> Floats:
        """Return lifted scores [Q, G]: (weight + alpha) * odds(score) * (transit / chance) ** transit_weight.

        The weight is that of `temporal_lift`, with pivots chosen by odds and transit times together. Gallery images of
        the query's own camera, and those without a time, get the geometric mean of the factors of the row's other
        images.

        Args:
            scores: [Q, G] in [0, 1].
            query_camids: [Q].
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.
            ranking: kind of the scores: "direct" is sigmoid(logit), "reranked" is the re-ranker's score.

        Raises:
            InputError: a camera is not in the profile, or a time cannot be seconds.
            ValueError: shapes do not fit, or a score is not a finite number.
        """
        places = query_camids, query_times, gallery_camids, gallery_times
        return Lift(self, np.asarray(scores, dtype=np.float64), *places, ranking).all()

    def lifted(
        self,
        scores: Table,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        *,
        ranking: ScoreKind = "direct",
    ) -> Table:
        """Return a table of the scores that `lift` returns, whose rows are lifted when they are asked for.

        Args:
            scores: [Q, G] in [0, 1]. All rows are read once before the first one is lifted.
            query_camids: as in `lift`, like the other arguments.
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.
            ranking: kind of the scores.

        Raises:
            InputError: as `lift` does.
            ValueError: as `lift` does, of a score when its row is read.
        """
        lift = Lift(self, scores, query_camids, query_times, gallery_camids, gallery_times, ranking)
        return ComputedTable(scores.shape, np.dtype(np.float64), lift.rows)

    def probabilities(
        self,
        scores: ArrayLike,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
        *,
        gallery: GallerySize | None = None,
    ) -> Floats | None:
        """Return the probability of each pair that it shows one person, [Q, G]; None without `match_odds`.

        Of pairs on one camera, and of those without a time, the score alone counts.

        Args:
            scores: sigmoid(logit), [Q, G].
            query_camids: [Q]; those of queries without a time are not used.
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.
            gallery: in which the queries were searched for. Default: the G images.

        Raises:
            InputError: a camera is not in the profile.
            ValueError: shapes do not fit, or a score is not a finite number.
        """
        if self.match_odds is None:
            return None
        table = np.asarray(scores, dtype=np.float64)
        query_camids, gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
        query_times, gallery_times = np.asarray(query_times, np.float64), np.asarray(gallery_times, np.float64)
        check_tables(table, query_camids, np.nan_to_num(query_times), gallery_camids, np.nan_to_num(gallery_times))
        known = ~np.isnan(query_times)
        self.check_cameras(query_camids=query_camids[known], gallery_camids=gallery_camids)
        query_times = correct_times(self.clocks, query_camids, query_times)
        gallery_times = correct_times(self.clocks, gallery_camids, gallery_times)
        log_ratios = np.zeros(table.shape)
        timed = np.zeros(table.shape, dtype=bool)
        for pair in camera_pairs(query_camids, query_times, gallery_camids, gallery_times):
            block = np.ix_(pair.rows, pair.columns)
            times = query_times[pair.rows], gallery_times[pair.columns]
            log_ratios[block] = self.log_ratios(*times, pair.query_camid, pair.gallery_camid)
            timed[block] = True
        searched = gallery or GallerySize.measure(gallery_times)
        return probability(self.match_odds.stated(self.match_odds.log_odds(table, log_ratios, timed, searched)))

    def stated(
        self,
        scores: Table,
        query_camids: ArrayLike,
        query_times: ArrayLike,
        gallery_camids: ArrayLike,
        gallery_times: ArrayLike,
    ) -> Table:
        """Return a table of what `probabilities` returns, whose rows are computed when they are asked for.

        Args:
            scores: sigmoid(logit), [Q, G].
            query_camids: as in `probabilities`, like the other arguments.
            query_times: [Q] seconds, NaN where unknown.
            gallery_camids: [G].
            gallery_times: [G] seconds, NaN where unknown.

        Raises:
            ValueError: the profile has no match odds.
        """
        if self.match_odds is None:
            raise ValueError(f"the profile of {self.target} must have match odds, got none")
        camids, times = np.asarray(query_camids), np.asarray(query_times)

        def state(rows: Rows) -> Floats:
            stated = self.probabilities(scores[rows], camids[rows], times[rows], gallery_camids, gallery_times)
            assert stated is not None
            return stated

        return ComputedTable(scores.shape, np.dtype(np.float64), state)

    def pair_log_odds(
        self,
        scores: ArrayLike,
        one: tuple[ArrayLike, ArrayLike],
        other: tuple[ArrayLike, ArrayLike],
        gallery: GallerySize,
    ) -> Floats:
        """Return the log odds that pairs of sightings show one person, [M].

        Unlike `probabilities` it also counts the time between two sightings on one camera, and does not map the odds by
        identities, which are made of them.

        Args:
            scores: sigmoid(logit), [M].
            one: camera and seconds (NaN where unknown) of each pair's first sighting, [M] each.
            other: of its second one.
            gallery: in which the pairs were found.

        Raises:
            InputError: a camera is not in the profile.
            ValueError: the profile has no match odds.
        """
        if self.match_odds is None:
            raise ValueError(f"the profile of {self.target} must have match odds, got none")
        camids, times = zip(*(map(np.asarray, end) for end in (one, other)), strict=True)
        self.check_cameras(camids=np.concatenate(camids))
        first, second = (
            correct_times(self.clocks, camid, time.astype(np.float64))
            for camid, time in zip(camids, times, strict=True)
        )
        log_ratios = np.zeros(len(first))
        timed = ~np.isnan(first) & ~np.isnan(second)
        same = timed & (camids[0] == camids[1])
        log_ratios[same] = self.return_times(second[same] - first[same])
        lower, higher = np.minimum(*camids), np.maximum(*camids)
        gaps = np.where(camids[0] < camids[1], second - first, first - second)
        across = np.flatnonzero(timed & ~same)
        numbers = pair_numbers(np.array(sorted(self.camids)), lower[across], higher[across])
        for number in np.unique(numbers):
            rows = across[numbers == number]
            log_ratios[rows] = self.transit(int(number), gaps[rows])
        table = np.asarray(scores, np.float64)
        return self.match_odds.log_odds(table, log_ratios, timed, gallery, same_camera=same)

    def camid_of(self, camera: int | str) -> int | None:
        """Return the number of a camera that is given by number or name; None if the profile lacks it.

        Where cameras are numbers, a text is one.
        """
        if isinstance(camera, str) and self.cameras:
            return self._camids_by_name.get(camera)
        if isinstance(camera, str):
            camera = int(camera) if camera.isdecimal() else -1
        return camera if camera in self.camids else None

    def seconds_of(self, time: float | str | None) -> float | None:
        """Return a time in the profile's seconds; None where it is unknown.

        Raises:
            InputError: it is a date, and the profile's times are not, or a text that is no date.
        """
        if not isinstance(time, str):
            return time
        if not self.time_origin:
            raise InputError(f"time_s: must be seconds on the clocks of the cameras of {self.target}, got a date")
        seconds = parse_date(time)
        if seconds is None:
            raise InputError(f"time_s: must be seconds or {DATE}, got {time[:40]!r}")
        return seconds

    def leave_out_unknown(self, camids: ArrayLike, times: ArrayLike) -> tuple[Ints, Floats]:
        """Take the times from sightings at cameras that the profile lacks, so that their scores alone count.

        Args:
            camids: [N].
            times: [N] seconds, NaN where unknown.

        Returns:
            Cameras, one of the profile's in place of an unknown one, and times.
        """
        cameras = np.asarray(camids)
        known = np.isin(cameras, self.camids)
        stand_in = self.camids[0] if self.camids else 0
        return np.where(known, cameras, stand_in), np.where(known, np.asarray(times, np.float64), np.nan)

    def log_ratios(self, query_times: Floats, gallery_times: Floats, query_camid: int, gallery_camid: int) -> Floats:
        """Return the log of transit / chance of corrected times on two cameras, [q, g]."""
        sign = 1.0 if query_camid < gallery_camid else -1.0
        number = self._pair_numbers[min(query_camid, gallery_camid), max(query_camid, gallery_camid)]
        return self.transit(number, sign * (gallery_times - query_times[:, None]))

    @property
    def _pair_numbers(self) -> dict[tuple[int, int], int]:
        return {pair: number for number, pair in enumerate(combinations(sorted(self.camids), 2))}

    @cached_property
    def _camids_by_name(self) -> dict[str, int]:
        return {name: camid for camid, name in self.cameras.items()}

    def check_cameras(self, **tables: Ints) -> None:
        """Check that cameras are those of the profile.

        Raises:
            InputError: some are not.
        """
        for name, camids in tables.items():
            unknown = sorted(set(camids.tolist()) - set(self.camids))
            if unknown:
                raise InputError(
                    f"{name} must be cameras of the profile of {self.target}, {list(self.camids)}, got {unknown}"
                )

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, {"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path | str, *, model: str | None = None) -> "TLiftProfile":
        """Read a profile.

        Args:
            path: of the file.
            model: digest of the network whose scores will be lifted. Default: not checked.

        Raises:
            InputError: the file does not exist, is not a profile of this version, or was fitted for another model.
        """
        profile = read_profile(Path(path), cls)
        if model is not None and profile.model != model:
            raise InputError(
                f"{path} must be fitted for the model {model[:12]}, got a profile of "
                f"{profile.model[:12] or 'an unnamed model'}; `dvc repro fit_tlift` fits it again"
            )
        return profile
