"""Fixtures of several integration tests; the registry of five versions is that of the registry's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running_service import write_registered_project
from tests.registry.conftest import five_versions, registry
from tests.working_folder import working_in

__all__ = ["five_versions", "project", "registry"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with a registered champion, which is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_registered_project(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make one such project for the tests of a module; each test has its own state folder."""
    folder = tmp_path_factory.mktemp("project")
    with working_in(folder):
        write_registered_project(folder)
        yield folder
