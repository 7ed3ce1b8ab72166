from pathlib import Path

import pytest

from qaconv.registry import Release
from qaconv.registry.promotion import rollback
from qaconv.serving.messages import NewSighting
from qaconv.serving.model_updates import Champions
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from tests.small_service import SETTINGS, crop, small_model
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


class SmallRegistry:
    """A registry of one version, number 1, whose model `run_id` made; its encoder's digest is the run's id."""

    def __init__(self, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_id = run_id
        monkeypatch.setattr("qaconv.serving.model_updates.find_release", self.find_release)
        monkeypatch.setattr("qaconv.serving.model_updates.download_served", self.download_served)

    def find_release(self, name: str, alias: str) -> Release:
        return Release(name, "1", {}, self.run_id)

    def download_served(self, name: str, version: str, folder: Path) -> None:
        small_model(folder, encoder=self.run_id)


def test_the_same_number_in_another_registry_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallRegistry("one", monkeypatch)
    champions = Champions("qaconv", tmp_path / "served")
    service = Service(Records(tmp_path / "state"), SETTINGS, *champions.active_version())
    (sighting,) = service.enrol("mall", [NewSighting(crop(0), 0)])
    assert not champions.follow(service)

    SmallRegistry("other", monkeypatch)
    assert champions.follow(service) and not champions.follow(service)
    assert service.active.model.encoder_digest == "other"
    assert service.records.map_of(sighting, "other", (3, 2, 1)) is not None
    assert service.records.map_of(sighting, "one", (3, 2, 1)) is None
    assert champions.active_version()[1].encoder_digest == "other"


def test_a_version_that_is_known_by_its_number_alone_answers_until_the_champion_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model(tmp_path / "served/1", "before")
    (tmp_path / "served/in_charge.json").write_text('{"version": "1"}')
    SmallRegistry("one", monkeypatch)
    champions = Champions("qaconv", tmp_path / "served")
    service = Service(Records(tmp_path / "state"), SETTINGS, *champions.active_version())
    assert service.active.model.encoder_digest == "before"
    assert champions.follow(service) and not champions.follow(service)
    assert service.active.model.encoder_digest == "one" and not (tmp_path / "served/1").exists()
