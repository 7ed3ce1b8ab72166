"""Registered projects for several tests: registering a version takes seconds, copying the project does not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from qaconv.config import Params, load_params
from qaconv.registry.runs import connect
from tests.tracked_projects import copy_project, retrain, write_project
from tests.working_folder import working_in

BETTER = {"station": 0.27, "mall": 0.5}
RESULTS: tuple[dict[str, float], ...] = ({}, BETTER, {"station": 0.5, "mall": 0.6})
BEST = {"station": 0.7, "mall": 0.8}
WORSE = {"station": 0.1, "mall": 0.1}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of a project that has run all stages, which is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


@pytest.fixture
def registered(registered_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of such a project whose model is version 1, the champion."""
    return _work_in_copy(registered_project, tmp_path, monkeypatch)


@pytest.fixture
def promoted(promoted_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Of such a project whose version 2, with the results of BETTER, is the champion in version 1's place."""
    return _work_in_copy(promoted_project, tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def registered_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.chdir(folder)
        retrain(write_project(folder))
    return folder


@pytest.fixture(scope="session")
def promoted_project(registered_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promoted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        retrain(_work_in_copy(registered_project, folder, monkeypatch), BETTER)
    return folder


def _work_in_copy(project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    copy_project(project, folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    connect()  # MLflow keeps the store of the test before
    return load_params(folder / "params.yaml")


@pytest.fixture(scope="session")
def five_versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """Of a project: version 3 is the champion after 2 and 1; 4 is better and 5 worse, and neither was promoted."""
    folder = tmp_path_factory.mktemp("five_versions")
    with working_in(folder):
        params = write_project(folder)
        for maps in RESULTS:
            retrain(params, maps)
        strict = params.gate.model_copy(update={"min_gain": 100.0})
        for maps in (BEST, WORSE):
            retrain(params.model_copy(update={"gate": strict}), maps)
    return folder, params


@pytest.fixture
def registry(
    five_versions: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Params]]:
    """Copy the store, which keeps its files in the first project; the copy's folder is the working folder."""
    folder, params = five_versions
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "mlflow.db", tmp_path)
    (tmp_path / "mlartifacts").symlink_to(folder / "mlartifacts")
    connect()
    yield tmp_path, params
