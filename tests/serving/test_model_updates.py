from pathlib import Path

import pytest

from qaconv.registry.promotion import rollback
from qaconv.serving.model_updates import Champions
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from tests.small_service import SETTINGS
from tests.tracked_projects import retrain, write_project


def test_the_service_follows_a_promotion_and_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    params = write_project(tmp_path)
    retrain(params)
    champions = Champions("qaconv", tmp_path / "served")
    service = Service(Records(tmp_path / "state"), SETTINGS, *champions.active_version())
    assert service.active.version == "1"

    retrain(params, {"station": 0.75, "mall": 0.5})
    assert champions.follow(service)
    assert service.active.version == "2"

    rollback("qaconv", "2", "confuses twins")
    assert champions.follow(service)
    assert service.active.version == "1"
    assert not champions.follow(service)
