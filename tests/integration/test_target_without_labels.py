"""Run every stage by DVC, up to a registered version, for one target with labels and one without."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from qaconv.config import Params, load_params
from qaconv.data.manifest import Manifest
from qaconv.metrics.estimates_file import TargetEstimates, load_target
from qaconv.paths import METRICS, PREPARED, REPORT
from qaconv.registry import load_evidence, register
from qaconv.registry.promotion import promote
from qaconv.registry.runs import load_metrics, log_figures, log_files, log_report, retraining_run
from qaconv.release.evidence import Evidence
from tests.imports import PROJECT
from tests.stages.site_params import site_params
from tests.tracked_projects import start_dvc

TRAIN = {"identities_per_batch": 4, "images_per_identity": 2, "epochs": 1, "lr_drop_epoch": 1}
CAMERAS = ("entrance", "hall", "roof")


def write_yard(folder: Path, site_folder: Path, sightings: pd.DataFrame) -> None:
    """Write the site's sightings as a table without people and splits, with names of cameras and dates."""
    folder.mkdir()
    seen = sightings[sightings["split"] != "train"]
    for path in seen["path"]:
        shutil.copy(site_folder / path, folder)
    dates = pd.to_datetime(1_700_000_000 + seen["time_s"], unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    rows = {"image": seen["path"].map(lambda path: Path(path).name), "camid": [CAMERAS[c] for c in seen["camid"]]}
    pd.DataFrame({**rows, "time_s": dates}).to_csv(folder / "sightings.csv", index=False)


@pytest.fixture
def params(tmp_path: Path, site_folder: Path, sightings: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of a project that has not been run, which is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    values = site_params(site_folder, "unused")
    values["datasets"] = {"shop": values["datasets"]["shop"], "yard": {"layout": "table", "path": "yard"}}
    values["targets"] = ["shop", "yard"]
    values["sources"] = {"datasets": ["shop"], "holdout_share": 0.25}
    for method in values["methods"].values():
        method["train"].update(TRAIN)
    values["gate"].update(max_calibration_error=1.0, min_match_precision=0.0)
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    write_yard(Path("yard"), site_folder, sightings)
    for name in ("dvc.yaml", "qaconv", "artifacts/adapted/README.md", "data/reviews", "data/weights"):
        source = PROJECT / name
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, name, ignore=shutil.ignore_patterns("__pycache__")) if source.is_dir() else shutil.copy(
            source, name
        )
    start_dvc(tmp_path)
    return load_params()


def dvc(*arguments: str) -> str:
    done = subprocess.run(["dvc", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_target_without_labels_is_estimated_shown_and_registered_next_to_one_with_labels(params: Params) -> None:
    dvc("repro", "report", "export")
    yard = Manifest.load(PREPARED / "yard")
    assert not yard.is_labelled and yard.cameras == dict(enumerate(CAMERAS))
    estimates = load_target(METRICS / "yard.json", methods=["qaconv"])
    assert isinstance(estimates, TargetEstimates)
    assert estimates.sightings == len(yard.frame) and 0 < estimates.searches < estimates.sightings
    assert "yard" in dvc("metrics", "show") and "shop" in dvc("metrics", "show")
    dvc("plots", "show", "--out", "plots")
    page = (REPORT / "report.html").read_text(encoding="utf-8")
    assert "yard: estimated, no labels" in page and "entrance" in page
    assert [target["name"] for target in json.loads((REPORT / "report.json").read_text())["estimated"]] == ["yard"]

    with retraining_run(params, {}):
        metrics = load_metrics(params)
        log_files(params)
        release = register(params, metrics)
        log_figures(params, metrics)
        outcome = promote(release, params.gate)
        log_report(str(release), outcome.reason, outcome.figures)
    assert outcome.promoted, outcome.reason
    evidence = load_evidence(release)
    assert isinstance(evidence, Evidence)
    assert evidence.unlabelled == ["yard"] and list(evidence.average_precisions) == ["shop"]
    assert MlflowClient().get_model_version(release.name, release.version).tags["estimated"] == "yard"
