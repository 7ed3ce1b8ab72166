"""Define, write and read the metrics of a target, `metrics/<target>.json`.

Figures are in [0, 1]; `_low` and `_high` are the ends of the 95 per cent confidence interval over queries.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.metrics.rankings import DIRECT

VERIFICATION, CALIBRATION_ERROR, MARKED, TRACKS = "verification", "calibration_error", "marked", "tracks"
RERANKING, RANDOM_SPLITS = "reranking", "splits"
MINUS = "_minus_"  # between the methods that a difference compares
TRUE_MATCH_RATE, THRESHOLD = "true_match_rate_at_", "threshold_at_"  # then the false match rate


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


F = TypeVar("F", bound=_Figures)


class RankingFigures(_Figures):
    """Metrics of one ranking of one method."""

    rank1: FiniteFloat
    rank1_low: FiniteFloat
    rank1_high: FiniteFloat
    rank5: FiniteFloat
    rank10: FiniteFloat
    rank20: FiniteFloat
    mAP: FiniteFloat
    mAP_low: FiniteFloat
    mAP_high: FiniteFloat
    mINP: FiniteFloat


class Difference(_Figures):
    """mAP of one method less that of another, on the same queries."""

    mAP: FiniteFloat
    mAP_low: FiniteFloat
    mAP_high: FiniteFloat


class OperatingPoint(_Figures):
    """The threshold that keeps a false match rate, and the share of matches above it."""

    false_match_rate: FiniteFloat
    true_match_rate: FiniteFloat
    threshold: FiniteFloat  # a logit


class VerificationFigures(_Figures):
    """Verification metrics of direct matching."""

    matches: int  # pairs of one person
    others: int  # pairs of two people
    points: tuple[OperatingPoint, ...]


class MarkedFigures(_Figures):
    """What a search marks as matches by default, among the 100 best answers to each query."""

    threshold: FiniteFloat  # probability
    answers: int  # marked
    recall: FiniteFloat  # share of the true matches that are marked
    precision: FiniteFloat | None = None  # share of right ones among the marked; not written where none is marked


class Reranking(_Figures):
    """How the gallery is re-ranked, and by which figures that was chosen without labels (matching/rerank_choice.py).

    Entries without a value are not written.
    """

    applied: bool
    k1: int | None = None  # of k-reciprocal re-ranking
    k2: int | None = None
    images_on_camera: int | None = None  # of a person: 1, 2, or 3 for three and more
    excess: FiniteFloat | None = None
    excess_low: FiniteFloat | None = None
    excess_high: FiniteFloat | None = None
    second_excess: FiniteFloat | None = None
    match_excess: FiniteFloat | None = None

    @classmethod
    def of_choice(cls, choice: Mapping[str, Any]) -> "Reranking":
        """Return the entries of choice.json that are of this file, too."""
        values = {**choice, **(choice["reranker"] or {})}
        return cls(
            applied=choice["reranker"] is not None,
            **{name: values.get(name) for name in cls.model_fields if name != "applied"},
        )


class SplitFigures(_Figures):
    """Means of direct matching over random halves of the people, and standard deviations over the halves."""

    count: int
    rank1: FiniteFloat
    rank1_deviation: FiniteFloat
    rank5: FiniteFloat
    rank10: FiniteFloat
    rank20: FiniteFloat
    mAP: FiniteFloat
    mAP_deviation: FiniteFloat


@dataclass(frozen=True)
class MethodMetrics:
    """Metrics of one method.

    Attributes:
        rankings: by the ranking's key.
        verification: of direct matching.
        calibration_error: expected calibration error at even odds; None without a calibration.
        marked: answers that are marked as matches; None where the profile states no probabilities.
        tracks: rankings of whole tracks, by the ranking's key; empty for a target without tracks.
        reranking: whether re-ranked figures are of a re-ranked gallery; None in files of older versions.
        splits: of random halves of the people; None where the dataset asks for none.
    """

    rankings: Mapping[str, RankingFigures]
    verification: VerificationFigures
    calibration_error: float | None = None
    marked: MarkedFigures | None = None
    tracks: Mapping[str, RankingFigures] = field(default_factory=dict)
    reranking: Reranking | None = None
    splits: SplitFigures | None = None


@dataclass(frozen=True)
class TargetMetrics:
    """Metrics of a target.

    Attributes:
        methods: by name, the compared one first.
        differences: first method less each other one, by the other's name and the ranking's key.
        queries: number of queries with a true match.
        gallery: number of gallery images whose people are known.
    """

    methods: Mapping[str, MethodMetrics]
    differences: Mapping[tuple[str, str], Mapping[str, Difference]]
    queries: int
    gallery: int

    def save(self, path: Path) -> None:
        """Write the file."""
        write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        content: dict[str, Any] = {name: _method_as_dict(metrics) for name, metrics in self.methods.items()}
        for (first, other), differences in self.differences.items():
            content[f"{first}{MINUS}{other}"] = {key: value.model_dump() for key, value in differences.items()}
        return {**content, "queries": self.queries, "gallery": self.gallery}

    @classmethod
    def load(cls, path: Path, *, methods: Iterable[str]) -> "TargetMetrics":
        """Read the file.

        Args:
            path: of the file.
            methods: must be in it, with direct matching.

        Raises:
            InputError: the file does not exist, or a figure is missing or not a finite number.
        """
        if not path.is_file():
            raise InputError(f"{path} does not exist; `dvc repro evaluate` writes it")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            queries, gallery = int(content.pop("queries")), int(content.pop("gallery"))
            differences = {}
            for name, values in content.items():
                if MINUS in name:
                    first, _, other = name.partition(MINUS)
                    differences[first, other] = {
                        key: _read(Difference, value, name, key) for key, value in values.items()
                    }
            measured = {name: _read_method(name, values) for name, values in content.items() if MINUS not in name}
        except _FigureError as error:
            raise InputError(f"{path}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not a metrics file: {error!r}; `dvc repro evaluate` writes it") from error
        for method in methods:
            if method not in measured or DIRECT.key not in measured[method].rankings:
                raise InputError(f"{path} must have {method}.{DIRECT.key}; `dvc repro evaluate` writes it")
        return cls(measured, differences, queries, gallery)


class _FigureError(Exception):
    """A figure is missing or not a finite number."""


def _read_method(name: str, values: dict[str, Any]) -> MethodMetrics:
    rankings = {
        key: _read(RankingFigures, figures, name, key)
        for key, figures in values.items()
        if key not in (VERIFICATION, CALIBRATION_ERROR, MARKED, TRACKS, RERANKING, RANDOM_SPLITS)
    }
    flat = values.get(VERIFICATION, {})
    rates = [key.removeprefix(TRUE_MATCH_RATE) for key in flat if key.startswith(TRUE_MATCH_RATE)]
    points = [
        {
            "false_match_rate": float(rate),
            "true_match_rate": flat[TRUE_MATCH_RATE + rate],
            "threshold": flat[THRESHOLD + rate],
        }
        for rate in sorted(rates, key=float, reverse=True)
    ]
    counts = {key: flat[key] for key in ("matches", "others") if key in flat}
    verification = _read(VerificationFigures, {**counts, "points": points}, name, VERIFICATION)
    marked = _read(MarkedFigures, values[MARKED], name, MARKED) if MARKED in values else None
    tracks = {key: _read(RankingFigures, figures, name, TRACKS, key) for key, figures in values.get(TRACKS, {}).items()}
    reranking = _read(Reranking, values[RERANKING], name, RERANKING) if RERANKING in values else None
    splits = _read(SplitFigures, values[RANDOM_SPLITS], name, RANDOM_SPLITS) if RANDOM_SPLITS in values else None
    return MethodMetrics(rankings, verification, values.get(CALIBRATION_ERROR), marked, tracks, reranking, splits)


def _method_as_dict(metrics: MethodMetrics) -> dict[str, Any]:
    content: dict[str, Any] = {key: figures.model_dump() for key, figures in metrics.rankings.items()}
    verification = metrics.verification
    content[VERIFICATION] = {"matches": verification.matches, "others": verification.others}
    for point in verification.points:
        content[VERIFICATION][f"{TRUE_MATCH_RATE}{point.false_match_rate:g}"] = point.true_match_rate
        content[VERIFICATION][f"{THRESHOLD}{point.false_match_rate:g}"] = point.threshold
    if metrics.calibration_error is not None:
        content[CALIBRATION_ERROR] = metrics.calibration_error
    if metrics.marked is not None:
        content[MARKED] = metrics.marked.model_dump(exclude_none=True)
    if metrics.reranking is not None:
        content[RERANKING] = metrics.reranking.model_dump(exclude_none=True)
    if metrics.splits is not None:
        content[RANDOM_SPLITS] = metrics.splits.model_dump()
    if metrics.tracks:
        content[TRACKS] = {key: figures.model_dump() for key, figures in metrics.tracks.items()}
    return content


def _read(model: type[F], values: Any, *keys: str) -> F:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(map(str, (*keys, *fault["loc"])))
        found = "nothing" if fault["type"] == "missing" else repr(fault["input"])
        raise _FigureError(f"{name} must be a finite number, got {found}; `dvc repro evaluate` writes it") from error
