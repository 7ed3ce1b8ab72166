"""Define, write and read the estimates of a target without labels, `metrics/<target>.json`.

Nothing in them was compared with a pid: they rest on the probabilities that the target's profile states, and `reviewed`
on people's answers about pairs. No figure of `expected` has the name of a measured one, so that the two cannot be
mistaken. `_low` and `_high` are the ends of the 95 per cent confidence interval, over searches or answers.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.metrics.metrics_file import TargetMetrics

ESTIMATED = "estimated"  # key that only these files have


class _Estimates(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedMatches(_Estimates):
    """What searches are expected to mark as matches by default, among the 100 best answers to each."""

    share_with_match: FiniteFloat  # of the searches, with an answer that is marked
    share_with_match_low: FiniteFloat
    share_with_match_high: FiniteFloat
    stated_threshold: FiniteFloat  # probability above which an answer is marked
    marked_answers: int
    expected_matches: FiniteFloat  # right ones among the marked answers: the sum of their probabilities
    expected_precision: FiniteFloat | None = None  # mean of their probabilities; not written where none is marked


class ReviewedPairs(_Estimates):
    """What people's answers about drawn pairs say of the matches that are marked, among the candidates of the draw."""

    answered_pairs: int
    precision: FiniteFloat | None = None  # share of marked pairs that show one person; not written where none is marked
    precision_low: FiniteFloat | None = None
    precision_high: FiniteFloat | None = None
    recall: FiniteFloat | None = None  # share of pairs of one person that are marked; not written where there is none
    recall_low: FiniteFloat | None = None
    recall_high: FiniteFloat | None = None


class TimeControl(_Estimates):
    """Whether times are used, and what the fit found in them."""

    used: bool
    reason: str  # why they are used or not
    gain_nats: FiniteFloat | None = None  # of a confident match by its times; not written where none was fitted
    permuted_gain_nats: FiniteFloat | None = None  # the same with each camera's times permuted, at most


class MethodEstimates(_Estimates):
    """Estimates of one method."""

    times: TimeControl
    expected: ExpectedMatches | None = None  # not written where the profile states no probabilities
    reviewed: ReviewedPairs | None = None  # not written without answers, or where the profile states no probabilities


@dataclass(frozen=True)
class TargetEstimates:
    """What is known of a target without labels.

    Attributes:
        methods: by name.
        sightings: number of images, without junk.
        cameras: number of cameras.
        sightings_with_times: number of sightings with a time.
        tracks: number of tracks; 0 where the data has none.
        searches: number of sightings that were searched for, a sample.
    """

    methods: Mapping[str, MethodEstimates]
    sightings: int
    cameras: int
    sightings_with_times: int
    tracks: int
    searches: int

    def save(self, path: Path) -> None:
        """Write the file."""
        write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        counts = {name: value for name, value in vars(self).items() if name != "methods"}
        methods = {name: method.model_dump(exclude_none=True) for name, method in self.methods.items()}
        return {ESTIMATED: True, **counts, **methods}


def load_target(path: Path, *, methods: Iterable[str]) -> TargetMetrics | TargetEstimates:
    """Read the metrics of a target, or its estimates where it has no labels.

    Args:
        path: of the file.
        methods: must be in it.

    Raises:
        InputError: the file does not exist, or a figure is missing or not a finite number.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        is_estimated = isinstance(content, dict) and content.pop(ESTIMATED, False)
    except (OSError, ValueError):
        is_estimated = False
    if not is_estimated:
        return TargetMetrics.load(path, methods=methods)
    counts = {name: content.pop(name, None) for name in TargetEstimates.__dataclass_fields__ if name != "methods"}
    for name, value in counts.items():
        if not isinstance(value, int):
            raise InputError(f"{path}: {name} must be a whole number, got {value!r}; `dvc repro evaluate` writes it")
    for method in methods:
        if method not in content:
            raise InputError(f"{path} must have {method}; `dvc repro evaluate` writes it")
    return TargetEstimates({name: _read(path, name, values) for name, values in content.items()}, **counts)


def _read(path: Path, method: str, values: Any) -> MethodEstimates:
    try:
        return MethodEstimates.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, (method, *fault["loc"])))
        raise InputError(f"{path}: {name}: {fault['msg']}; `dvc repro evaluate` writes it") from error
