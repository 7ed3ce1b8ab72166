"""A project that was moved, renamed or copied after a retraining."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from qaconv.errors import InputError
from qaconv.registry import find_champion, load_evidence
from qaconv.registry.relocation import relocate
from qaconv.registry.runs import ARTIFACTS, STORE, connect
from tests.tracked_projects import pointed_to

REFUSED = r"mlflow\.db: its files must be in .*; run `qaconv relocate`"


@pytest.fixture
def project(registered_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the project; its new folder is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a new%20place #1"
    shutil.copytree(registered_project, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_copied_project_is_refused_until_it_is_relocated_and_then_keeps_its_champion(
    project: Path, registered_project: Path
) -> None:
    with pytest.raises(InputError, match=REFUSED):
        connect()
    assert relocate(STORE, ARTIFACTS) > 0
    shutil.move(registered_project / "mlartifacts", registered_project / "gone")
    try:
        connect()
        assert load_evidence(find_champion("qaconv")) is not None
        mlflow.set_experiment("qaconv")
        with mlflow.start_run() as run:
            mlflow.log_text("text", "file.txt")
        assert (project / "mlartifacts" / run.info.run_id / "artifacts/file.txt").is_file()
        assert not (registered_project / "mlartifacts").exists()
    finally:
        shutil.move(registered_project / "gone", registered_project / "mlartifacts")
    assert relocate(STORE, ARTIFACTS) == 0
    assert pointed_to("champion")["qaconv"] == "1"


def test_a_renamed_parent_folder_is_noticed_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relocate(STORE, ARTIFACTS)
    renamed = project.parent.with_name("renamed")
    project.parent.rename(renamed)
    monkeypatch.chdir(renamed / project.name)
    with pytest.raises(InputError, match=REFUSED):
        connect()


def test_a_second_way_to_the_same_folder_is_no_other_place(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relocate(STORE, ARTIFACTS)
    moved = project.with_name("moved")
    project.rename(moved)
    project.symlink_to(moved)
    monkeypatch.chdir(moved)
    connect()


def test_a_store_named_by_a_relative_address_is_checked_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(InputError, match=REFUSED):
        connect()


def test_a_store_elsewhere_may_keep_its_files_where_it_likes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.with_name('other.db')}")
    STORE.rename(project.with_name("other.db"))
    connect()


@pytest.mark.parametrize("left_out", ["mlartifacts", "mlartifacts/models"])
def test_a_copy_without_the_files_of_a_version_is_not_relocated(project: Path, left_out: str) -> None:
    shutil.rmtree(project / left_out)
    before = STORE.read_bytes()
    with pytest.raises(InputError, match="mlartifacts: has no files of .*qaconv version 1.*; copy them from"):
        relocate(STORE, ARTIFACTS)
    assert STORE.read_bytes() == before


def test_a_folder_without_a_store_cannot_be_relocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"mlflow\.db: file not found"):
        relocate(STORE, ARTIFACTS)


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(project: Path) -> None:
    relocate(STORE, ARTIFACTS)
    connect()
    experiment = MlflowClient().get_experiment_by_name("qaconv")
    assert experiment is not None
    MlflowClient().delete_experiment(experiment.experiment_id)
    from qaconv.registry.runs import _open_experiment

    with pytest.raises(InputError, match="run `mlflow experiments restore --experiment-id 1`"):
        _open_experiment("qaconv")
