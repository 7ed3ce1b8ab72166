"""Collect what the gate decides by; it is kept with each registered version."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.metrics.estimates_file import MethodEstimates, TargetEstimates, load_target
from qaconv.metrics.metrics_file import MethodMetrics, TargetMetrics
from qaconv.metrics.rankings import DIRECT, average_precision_column
from qaconv.runtime.contract import ENCODER, Contract
from qaconv.runtime.encoder import EncoderGraph
from qaconv.tlift import TLiftProfile
from qaconv.tlift.findings import LEFT_OUT

RUNS = 30  # of the encoder; the median counts


@dataclass(frozen=True)
class Clocks:
    """The clocks of one target.

    Attributes:
        cameras: number of cameras.
        left_out: why some or all times of a camera are not used, by its name or number.
    """

    cameras: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Evidence:
    """The figures of one version.

    Attributes:
        average_precisions: of direct matching in [0, 1], by target with labels and query image, without queries that do
            not count.
        data: DVC's digest of the data that was measured or estimated on, by target.
        differences: largest difference of each graph from PyTorch, by file name.
        megabytes: size of both graphs.
        encoder_ms: median time of one crop through the encoder, on one thread of the CPU that registered it.
        times: why a target's profile does not use times, by target; empty where it does.
        calibration_errors: of probabilities at even odds, in [0, 1], by target; no entry where no source people were
            held out to fit them.
        clocks: findings of the profile's fit, by target.
        match_precisions: share of right ones among the answers marked as matches, in [0, 1], by target; no entry where
            none is marked, or the profile states no probabilities.
        match_shares: share of searches with an answer that is marked as a match, in [0, 1], by target without labels;
            no entry where the profile states no probabilities.
        reviewed_precisions: highest share of right ones among the marked pairs that people's answers allow (upper end
            of the interval), in [0, 1], by target without labels that has answers.
    """

    average_precisions: Mapping[str, Mapping[str, float]]
    data: Mapping[str, str]
    differences: Mapping[str, float]
    megabytes: float
    encoder_ms: float
    times: Mapping[str, str]
    calibration_errors: Mapping[str, float]
    clocks: Mapping[str, Clocks]
    match_precisions: Mapping[str, float]
    match_shares: Mapping[str, float]
    reviewed_precisions: Mapping[str, float]

    @property
    def unlabelled(self) -> list[str]:
        """Targets without labels."""
        return [name for name in self.data if name not in self.average_precisions]

    def mean_average_precision(self, target: str) -> float:
        """Return a target's mAP in [0, 1]."""
        return float(np.mean(list(self.average_precisions[target].values())))

    def save(self, path: Path) -> None:
        """Write JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        """Read what `save` wrote. Figures that an older file does not have are left empty."""
        later = ("calibration_errors", "clocks", "match_precisions", "match_shares", "reviewed_precisions")
        missing: dict[str, Any] = {name: {} for name in later}
        values = missing | json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "clocks": {name: Clocks(**clocks) for name, clocks in values["clocks"].items()}})


def collect(
    method: str, targets: Sequence[str], data: Mapping[str, str], metrics: Path, profiles: Path, onnx: Path
) -> Evidence:
    """Read the outputs of evaluate, fit_tlift and export, and measure the encoder's speed.

    Args:
        method: the served one.
        targets: their names.
        data: digests, by target.
        metrics: folder of `<target>.json` and `queries/<target>.parquet`.
        profiles: folder of `<target>/<method>.json`.
        onnx: folder of the graphs and their contract.

    Raises:
        InputError: a file is missing.
    """
    graphs = Contract.load(onnx).graphs
    fitted = {name: TLiftProfile.load(profiles / name / f"{method}.json") for name in targets}
    figures = {name: load_target(metrics / f"{name}.json", methods=[method]) for name in targets}
    measured = {name: value.methods[method] for name, value in figures.items() if isinstance(value, TargetMetrics)}
    estimated = {name: value.methods[method] for name, value in figures.items() if isinstance(value, TargetEstimates)}
    column = average_precision_column(method, DIRECT.key)
    return Evidence(
        average_precisions={
            name: _average_precisions(metrics / "queries" / f"{name}.parquet", column) for name in measured
        },
        data=dict(data),
        differences={name: graph.largest_difference_from_pytorch for name, graph in graphs.items()},
        megabytes=measure_size(onnx, graphs),
        encoder_ms=measure_encoder(onnx / ENCODER),
        times={name: "" if profile.active else profile.reason for name, profile in fitted.items()},
        calibration_errors=_calibration_errors(measured),
        clocks={name: _clocks(profile) for name, profile in fitted.items()},
        match_precisions=_match_precisions(measured),
        match_shares=_match_shares(estimated),
        reviewed_precisions=_reviewed_precisions(estimated),
    )


def _average_precisions(path: Path, column: str) -> dict[str, float]:
    """Read the figures of the ranking that promotes."""
    if not path.is_file():
        raise InputError(f"{path}: file not found; `dvc repro evaluate` writes it")
    table = pd.read_parquet(path)
    if column not in table:
        raise InputError(f"{path}: must have the column {column}, it has {', '.join(table.columns)}")
    return dict(table.set_index("image")[column].dropna())


def _calibration_errors(measured: Mapping[str, MethodMetrics]) -> dict[str, float]:
    errors = {name: metrics.calibration_error for name, metrics in measured.items()}
    return {name: error for name, error in errors.items() if error is not None}


def _match_precisions(measured: Mapping[str, MethodMetrics]) -> dict[str, float]:
    marked = {name: metrics.marked for name, metrics in measured.items()}
    return {name: figures.precision for name, figures in marked.items() if figures and figures.precision is not None}


def _match_shares(estimated: Mapping[str, MethodEstimates]) -> dict[str, float]:
    expected = {name: estimates.expected for name, estimates in estimated.items()}
    return {name: matches.share_with_match for name, matches in expected.items() if matches}


def _reviewed_precisions(estimated: Mapping[str, MethodEstimates]) -> dict[str, float]:
    reviewed = {name: estimates.reviewed for name, estimates in estimated.items()}
    return {
        name: pairs.precision_high for name, pairs in reviewed.items() if pairs and pairs.precision_high is not None
    }


def _clocks(profile: TLiftProfile) -> Clocks:
    faults = [finding for finding in profile.findings if finding.done == LEFT_OUT]
    cameras = sorted({finding.camid for finding in faults})
    details = {
        profile.cameras.get(camid, str(camid)): "; ".join(
            finding.detail for finding in faults if finding.camid == camid
        )
        for camid in cameras
    }
    return Clocks(len(profile.camids), details)


def measure_size(onnx: Path, graphs: Iterable[str]) -> float:
    """Return the megabytes of the graphs in a folder."""
    return sum((onnx / name).stat().st_size for name in graphs) / 1e6


def measure_encoder(path: Path) -> float:
    """Measure the milliseconds of one crop; the median, as other work on the machine slows some runs."""
    encoder = EncoderGraph(path, threads=1)
    crops = np.zeros((1, *encoder.crop_size, 3), dtype=np.uint8)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        encoder.encode(crops)
        seconds.append(time.perf_counter() - start)
    return float(1000 * np.median(seconds))
