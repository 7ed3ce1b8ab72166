"""Registered projects for several tests: registering a version takes seconds, copying the project does not."""

from pathlib import Path

import pytest

from qaconv.config import Params, load_params
from qaconv.registry.runs import connect
from tests.tracked_projects import copy_project, retrain, write_project

BETTER = {"station": 0.27, "mall": 0.5}


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
