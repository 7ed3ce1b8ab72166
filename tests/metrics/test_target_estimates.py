import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qaconv.errors import InputError
from qaconv.metrics.estimates_file import TargetEstimates, load_target
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.metrics.rankings import Ranking
from qaconv.metrics.target_estimates import estimate, write_estimates
from qaconv.metrics.target_metrics import measure, write_measures
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import METRICS
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds

RANKINGS = (Ranking("direct", "direct"), Ranking("tlift", "lifted", lifted=True))
QUERIES, GALLERY = 12, 60
THRESHOLD = 0.6
ODDS = MatchOdds(Calibration([0.0, 1.0], [-6.0, 3.0]), THRESHOLD, sightings=QUERIES + GALLERY, span_s=600.0)
EVIDENCE = {"gain_nats": 1.5, "control_nats": [0.25, 0.5, 0.125]}
FITTED = TLiftProfile("yard", (0, 1, 2), active=True, reason="made up", match_odds=ODDS, evidence=EVIDENCE)
WITHOUT_TIMES = TLiftProfile("yard", (0, 1, 2), active=False, reason="no times: time is not used")


def draw_sightings(cameras: int = 3) -> EvaluatedSightings:
    """Draw sightings of people whom nobody has named."""
    rng = np.random.default_rng(3)
    count = QUERIES + GALLERY
    frame = pd.DataFrame({"pid": -2, "camid": rng.integers(0, cameras, count), "time_s": rng.uniform(0, 600, count)})
    frame["time_s"] = frame["time_s"].where((frame.index > 0) & (frame.index < QUERIES))  # of queries only
    frame["track"] = np.where(frame.index % 3, "", (frame.index // 6).astype(str))
    frame["split"] = ["query"] * QUERIES + ["gallery"] * GALLERY
    return EvaluatedSightings(frame.assign(image=[f"{row}.jpg" for row in frame.index]), Path("yard"))


SIGHTINGS = draw_sightings()
LOGITS = np.random.default_rng(4).normal(size=(QUERIES, GALLERY)).astype(np.float32) - 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the estimates of yard, where the baseline's profile does not use times."""
    monkeypatch.chdir(tmp_path)
    profiles = {"qaconv": FITTED, "baseline": WITHOUT_TIMES}
    estimates = {name: estimate(LOGITS, SIGHTINGS, profile, seed=7) for name, profile in profiles.items()}
    write_estimates("yard", estimates, SIGHTINGS, RANKINGS)
    return METRICS


def read(folder: Path) -> TargetEstimates:
    estimates = load_target(folder / "yard.json", methods=["qaconv", "baseline"])
    assert isinstance(estimates, TargetEstimates)
    return estimates


@pytest.mark.parametrize("cameras", [1, 3])
def test_what_is_marked_is_expected_to_be_right_as_often_as_its_probabilities_say(cameras: int) -> None:
    sightings = draw_sightings(cameras)
    query, gallery = sightings.query, sightings.gallery
    scores = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    stated = FITTED.probabilities(scores, query["camid"], query["time_s"], gallery["camid"], gallery["time_s"])
    assert stated is not None
    counts = query["camid"].to_numpy()[:, None] != gallery["camid"].to_numpy()
    marked = (stated > THRESHOLD) & (counts | (cameras == 1))
    expected = estimate(LOGITS, sightings, FITTED, seed=7).expected
    assert expected is not None
    assert 0 < expected.marked_answers == marked.sum() < counts.sum() or cameras == 1
    assert expected.share_with_match == marked.any(axis=1).mean()
    assert expected.share_with_match_low < expected.share_with_match < expected.share_with_match_high or cameras == 1
    assert expected.expected_matches == pytest.approx(stated[marked].sum())
    assert expected.expected_precision == pytest.approx(stated[marked].mean())


def test_counts_and_the_control_of_times_are_written(folder: Path) -> None:
    estimates = read(folder)
    assert (estimates.sightings, estimates.sightings_with_times, estimates.searches) == (72, QUERIES - 1, QUERIES)
    assert (estimates.cameras, estimates.tracks) == (3, 12)
    times = estimates.methods["qaconv"].times
    assert (times.used, times.gain_nats, times.permuted_gain_nats) == (True, 1.5, 0.5)
    unused = estimates.methods["baseline"]
    assert (unused.times.used, unused.times.reason) == (False, "no times: time is not used")
    assert unused.expected is None and "expected" not in json.loads((folder / "yard.json").read_text())["baseline"]


def measured_yard(tmp_path: Path) -> Path:
    """Write the metrics of the same sightings with labels, as `measured`."""
    rng = np.random.default_rng(5)
    frame = pd.concat([SIGHTINGS.query, SIGHTINGS.gallery])
    labelled = EvaluatedSightings(frame.assign(pid=rng.integers(0, 4, len(frame))), Path("yard"))
    scores = [(ranking.key, LOGITS) for ranking in RANKINGS]
    measures = {method: measure(scores, labelled, None, FITTED) for method in ("qaconv", "baseline")}
    write_measures("measured", measures, labelled.query, seed=7)
    return METRICS


def leaves(content: dict[str, Any]) -> set[str]:
    nested = [leaves(value) if isinstance(value, dict) else {name} for name, value in content.items()]
    return set().union(*nested)


def test_no_estimate_has_the_name_of_a_measured_figure(folder: Path, tmp_path: Path) -> None:
    measured_yard(tmp_path)
    assert isinstance(load_target(folder / "measured.json", methods=["qaconv"]), TargetMetrics)
    measured, estimated = (leaves(json.loads((folder / f"{name}.json").read_text())) for name in ("measured", "yard"))
    assert {"mAP", "precision", "queries"} < measured
    assert {"share_with_match", "expected_precision", "searches"} < estimated
    assert not measured & estimated


def test_tables_without_labels_have_the_columns_of_measured_ones_and_no_row(folder: Path, tmp_path: Path) -> None:
    measured_yard(tmp_path)
    for table in ("camera_pairs", "cmc", "roc", "stated"):
        measured, estimated = (pd.read_csv(folder / table / f"{name}.csv") for name in ("measured", "yard"))
        assert list(estimated.columns) == list(measured.columns) and estimated.empty and len(measured), table
    assert list(pd.read_csv(folder / "reliability/yard.csv")) == ["method", "probability", "share", "weight"]
    measured, estimated = (pd.read_parquet(folder / "queries" / f"{name}.parquet") for name in ("measured", "yard"))
    assert estimated.empty and estimated.dtypes.astype(str).tolist() == measured.dtypes.astype(str).tolist()
    assert list(estimated) == list(measured)


def test_saved_estimates_come_back_the_same(folder: Path) -> None:
    read(folder).save(folder / "again.json")
    assert (folder / "again.json").read_bytes() == (folder / "yard.json").read_bytes()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("searches", None, "yard.json: searches must be a whole number, got None"),
        ("qaconv", {}, "yard.json: qaconv.times: Field required"),
        ("baseline", None, "yard.json must have baseline"),
    ],
)
def test_a_wrong_estimate_is_refused_by_name(folder: Path, key: str, value: object, message: str) -> None:
    content = json.loads((folder / "yard.json").read_text()) | {key: value}
    (folder / "yard.json").write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(InputError, match=message):
        read(folder)
