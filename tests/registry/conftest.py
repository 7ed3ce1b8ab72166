"""Make a registry of five versions once, and give each test that asks for it a copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from qaconv.config import Params
from qaconv.registry.runs import connect
from tests.tracked_projects import retrain, write_project

RESULTS: tuple[dict[str, float], ...] = ({}, {"station": 0.27, "mall": 0.5}, {"station": 0.5, "mall": 0.6})
BEST = {"station": 0.7, "mall": 0.8}
WORSE = {"station": 0.1, "mall": 0.1}


@pytest.fixture(scope="session")
def five_versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """Of a project: version 3 is the champion after 2 and 1; 4 is better and 5 worse, and neither was promoted."""
    folder = tmp_path_factory.mktemp("five_versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
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
