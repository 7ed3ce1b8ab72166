"""What the stages have written goes in; what the gate looks at comes out, to be kept with each registered version."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from qaconv.errors import InputError
from qaconv.files import write_json
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.metrics.rankings import DIRECT, SERVED_METHOD, average_precision_column
from qaconv.tlift.findings import LEFT_OUT, Finding

DECIDING = average_precision_column(SERVED_METHOD, DIRECT.key)  # of the ranking that promotes
RUNS = 30  # of the encoder, of which the median counts


@dataclass(frozen=True)
class Clocks:
    """Of one target.

    Attributes:
        cameras: how many there are.
        left_out: why some or all times of a camera were not used, by camid.
    """

    cameras: int
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Evidence:
    """What is known of one version.

    Attributes:
        average_precisions: of direct matching in [0, 1], by target and query image; queries that do not count are
            left out.
        data: DVC's digest of the data that it was measured on, by target.
        differences: largest difference of each graph from PyTorch, by the graph's file.
        megabytes: of the graphs together.
        encoder_ms: median time of one crop through the encoder, on one thread of the CPU that registered it.
        times: why each target's profile does not use times; empty where it does.
        calibration_errors: of probabilities at even odds, in [0, 1], by target; without an entry where no source
            people were held out to fit them.
        clocks: what fitting the profile found about them, by target.
    """

    average_precisions: Mapping[str, Mapping[str, float]]
    data: Mapping[str, str]
    differences: Mapping[str, float]
    megabytes: float
    encoder_ms: float
    times: Mapping[str, str]
    calibration_errors: Mapping[str, float]
    clocks: Mapping[str, Clocks]

    def mean_average_precision(self, target: str) -> float:
        """In [0, 1]."""
        return float(np.mean(list(self.average_precisions[target].values())))

    def save(self, path: Path) -> None:
        """Writes JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Evidence":
        """Reads what `save` wrote; of what an older version did not keep, nothing is known."""
        values = {"calibration_errors": {}, "clocks": {}} | json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**values, "clocks": {name: Clocks(**each) for name, each in values["clocks"].items()}})


def collect(targets: Sequence[str], data: Mapping[str, str], metrics: Path, profiles: Path, onnx: Path) -> Evidence:
    """Reads the outputs of evaluate, fit_tlift and export, and measures the encoder's speed.

    Args:
        targets: names.
        data: digests, by target.
        metrics: folder of `<target>.json` and `queries/<target>.parquet`.
        profiles: folder of `<target>/qaconv.json`.
        onnx: folder of the graphs and their contract.

    Raises:
        InputError: a file is missing; without evidence nothing is registered.
    """
    contract = _read_json(onnx / "contract.json")
    graphs = contract["graphs"]
    found = {name: _read_json(profiles / name / "qaconv.json") for name in targets}
    return Evidence(
        average_precisions={name: _of_queries(metrics / "queries" / f"{name}.parquet") for name in targets},
        data=dict(data),
        differences={name: float(graph["largest_difference_from_pytorch"]) for name, graph in graphs.items()},
        megabytes=sum((onnx / name).stat().st_size for name in graphs) / 1e6,
        encoder_ms=_measure_encoder(onnx / "encoder.onnx"),
        times={name: "" if profile["active"] else profile["reason"] for name, profile in found.items()},
        calibration_errors=_calibration_errors(targets, metrics),
        clocks={name: _clocks(profile) for name, profile in found.items()},
    )


def _of_queries(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise InputError(f"{path}: is not there; `dvc repro evaluate` writes it")
    table = pd.read_parquet(path)
    if DECIDING not in table:
        raise InputError(f"{path}: has no column {DECIDING}; it has {', '.join(table.columns)}")
    return dict(table.set_index("image")[DECIDING].dropna())


def _calibration_errors(targets: Sequence[str], metrics: Path) -> dict[str, float]:
    loaded = {name: TargetMetrics.load(metrics / f"{name}.json").methods[SERVED_METHOD] for name in targets}
    return {name: of.calibration_error for name, of in loaded.items() if of.calibration_error is not None}


def _clocks(profile: Mapping[str, Any]) -> Clocks:
    findings = [Finding(**finding) for finding in profile["findings"]]
    bad = [finding for finding in findings if finding.done == LEFT_OUT]
    cameras = sorted({finding.camid for finding in bad})
    said = {str(camid): "; ".join(finding.detail for finding in bad if finding.camid == camid) for camid in cameras}
    return Clocks(len(profile["camids"]), said)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: is not there; `dvc repro` writes it")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _measure_encoder(path: Path) -> float:
    """Median milliseconds of one crop; what else the machine does then slows some runs, seldom half of them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    crops = session.get_inputs()[0]
    feed = {crops.name: np.zeros((1, *crops.shape[1:]), dtype=np.uint8)}
    took = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(None, feed)
        took.append(time.perf_counter() - start)
    return float(1000 * np.median(took))
