"""Fit a target again, in a project whose stages copy made-up profiles."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts

from flows.fit_target import fit_target
from flows.stages import StageFailed
from qaconv.config import load_params
from qaconv.errors import InputError
from qaconv.tlift import TLiftProfile
from qaconv.tlift.transit import TransitTable
from tests.flows.artifacts import artifact_data
from tests.tracked_projects import METHODS, MODEL, retrain, write_lock

pytestmark = pytest.mark.usefixtures("prefect_server")
MAPS = {"station": 0.25, "mall": 0.5}  # QAConv's mean average precision in the project


@pytest.fixture(scope="module")
def project(pipeline: Path) -> Path:
    """Register a first version, as if the stages had run, with two profiles for `station`."""
    set_next_fit(pipeline, (60.0, 80.0, 20.0))
    for name in ("artifacts", "metrics"):
        shutil.copytree(pipeline / "made_up" / name, pipeline / name)
    write_lock(pipeline, MAPS)
    retrain(load_params())
    return pipeline


def set_next_fit(folder: Path, centres: tuple[float, ...], model: str = MODEL) -> None:
    """Write the profiles that the next fit of `station` will return."""
    near = [3.0 if abs(bin - 90) < 15 else -3.0 for bin in range(180)]
    transit = TransitTable(list(centres), 9.0, [near] * 3)
    profile = TLiftProfile("station", (0, 1, 2), True, "made up", model=model, transit=transit)
    for method in METHODS:
        evidence = {"gain_nats": 2.0, "matches_by_pair": [50.0] * 3}
        replace(profile, evidence=evidence).save(folder / f"made_up/artifacts/tlift/station/{method}.json")


def newest_run() -> tuple[str, str, dict[str, str]]:
    """Return id, status and tags of the newest MLflow run."""
    experiment = MlflowClient().get_experiment_by_name("qaconv")
    assert experiment is not None
    run = MlflowClient().search_runs([experiment.experiment_id], max_results=1)[0]
    return run.info.run_id, run.info.status, run.data.tags


def test_a_clock_that_was_set_is_reported_and_the_profiles_are_linked_to_the_model_version(project: Path) -> None:
    set_next_fit(project, (60.0, 680.0, 620.0))
    changes = fit_target("station")
    assert changes["qaconv"] == ["camera 2: its transit times have changed; its clock was set by +600 s"]
    run_id, status, tags = newest_run()
    assert status == "FINISHED"
    assert tags["target"] == "station"
    logged = {Path(file.path).name for file in list_artifacts(run_id=run_id, artifact_path="tlift/station") or ()}
    assert logged == {"qaconv.json", "baseline.json"}
    (version,) = MlflowClient().search_model_versions("name = 'qaconv'")
    assert version.tags["tlift.station"] == run_id
    rows = json.loads(artifact_data("tlift-station"))
    assert {row["model"] for row in rows} == set(METHODS)
    assert all("its clock was set by +600 s" in row["changed"] for row in rows)


def test_a_fit_with_equal_profiles_reports_no_change(project: Path) -> None:
    fit_target("station")
    assert fit_target("station") == {method: [] for method in METHODS}


def test_a_profile_of_an_unregistered_model_is_linked_to_no_version(project: Path) -> None:
    before = MlflowClient().search_model_versions("name = 'qaconv'")[0].tags
    set_next_fit(project, (60.0, 80.0, 20.0), model="c" * 64)
    fit_target("station")
    assert MlflowClient().search_model_versions("name = 'qaconv'")[0].tags == before


def test_a_stage_that_fails_closes_the_mlflow_run_as_failed(project: Path) -> None:
    (project / "made_up/artifacts/tlift/station").rename(project / "away")
    try:
        with pytest.raises(StageFailed):
            fit_target("station")
    finally:
        (project / "away").rename(project / "made_up/artifacts/tlift/station")
    assert newest_run()[1] == "FAILED"


def test_an_unknown_target_is_refused_with_the_allowed_ones(project: Path) -> None:
    with pytest.raises(InputError, match="targets has no 'garage', allowed: station, mall"):
        fit_target("garage")
