import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.params import change_params
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.registry import register
from qaconv.registry.promotion import promote
from qaconv.registry.reproduction import reproduce
from qaconv.registry.runs import load_metrics, log_figures, log_files, retraining_run
from qaconv.registry.sites import log_adaptation, register_adapted
from tests.tracked_projects import commit_all, write, write_pipeline


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a git repository whose stages copy made-up files."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_pipeline(tmp_path)
    write(tmp_path / ".gitignore", "mlflow.db\nmlartifacts\n/data\n/artifacts\n/metrics\n.dvc/cache\n.dvc/tmp\n")
    return tmp_path


def retrain(repository: Path) -> Params:
    """Commit a repository, run every stage of the working folder, and register the models."""
    commit_all(repository)
    subprocess.run(["dvc", "repro"], check=True, capture_output=True)
    params = load_params()
    with retraining_run(params, {}):
        metrics = load_metrics(params)
        log_files(params)
        log_figures(params, metrics)
        promote(register(params, metrics), params.gate)
    return params


def test_a_version_is_made_again_from_its_commit_after_the_project_has_changed(project: Path) -> None:
    retrain(project)
    write(project / "params.yaml", "nonsense: true\n")
    commit_all(project)
    made = reproduce("models:/qaconv@champion")
    assert made.release.version == "1"
    assert made.differences == []
    assert made.compared > 20


def test_a_sites_version_is_made_again_by_its_own_stages_alone(project: Path) -> None:
    change_params({"adapt.targets": ["station"]})
    params = retrain(project)
    with retraining_run(params, {}):
        log_adaptation("station")
        promote(register_adapted(params, "station"), params.gate)
    made = reproduce("models:/qaconv@champion-station")
    assert (made.release.site, made.differences) == ("station", [])
    assert made.compared < reproduce("models:/qaconv@champion").compared


def test_an_adaptation_that_comes_out_different_is_named(project: Path) -> None:
    change_params({"adapt.targets": ["station"]})
    stages = (project / "dvc.yaml").read_text()
    write(
        project / "dvc.yaml",
        stages.replace(
            "artifacts/adapted/\n", "artifacts/adapted/ && date +%s%N >artifacts/adapted/${item}/history.csv\n"
        ),
    )
    params = retrain(project)
    with retraining_run(params, {}):
        log_adaptation("station")
        register_adapted(params, "station")
    (difference,) = reproduce("models:/qaconv@challenger-station").differences
    assert difference.startswith("artifacts/adapted/station: was ")


def test_a_project_in_a_folder_of_a_larger_repository_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "teams/vision"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    write_pipeline(folder)
    write(folder / ".gitignore", "mlflow.db\nmlartifacts\n/data\n/artifacts\n/metrics\n")
    (folder / ".dvc").rename(tmp_path / ".dvc")
    write(tmp_path / ".gitignore", ".dvc/cache\n.dvc/tmp\n")
    retrain(tmp_path)
    assert reproduce("models:/qaconv@champion").differences == []


def test_added_data_are_pulled_from_a_remote_in_this_clones_local_configuration(project: Path) -> None:
    write(project / "data" / "brought.csv", "image,pid\n")
    write(project / ".gitignore", (project / ".gitignore").read_text().replace("/data\n", "/data/*\n!/data/*.dvc\n"))
    remote = project.parent / f"{project.name}-remote"
    for command in (
        ["remote", "add", "--local", "--default", "here", f"../{remote.name}"],
        ["add", "data/brought.csv"],
        ["push"],
    ):
        subprocess.run(["dvc", *command], check=True, capture_output=True)
    retrain(project)
    assert reproduce("models:/qaconv@champion").differences == []


def test_an_output_that_comes_out_different_is_named(project: Path) -> None:
    write(project / "evaluate.sh", (project / "evaluate.sh").read_text() + "date +%s%N >>metrics/cmc/$1.csv\n")
    retrain(project)
    differences = reproduce("models:/qaconv/1").differences
    assert sorted(line.split(":")[0] for line in differences) == ["metrics/cmc/mall.csv", "metrics/cmc/station.csv"]


def test_a_version_of_uncommitted_code_is_refused(project: Path) -> None:
    retrain(project)
    MlflowClient().set_model_version_tag("qaconv", "1", "git_dirty", "true")
    with pytest.raises(InputError, match="qaconv version 1: cannot be reproduced, as its code was in no commit"):
        reproduce("models:/qaconv@champion")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("qaconv", "must be models:/NAME"),
        ("models:/qaconv@nobody", "not found in the registry"),
        ("models:/x/1", "x/1: "),
    ],
)
def test_an_unknown_version_is_refused(project: Path, uri: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reproduce(uri)
