from pathlib import Path

import pytest

from qaconv.errors import InputError
from qaconv.registry import Release
from qaconv.registry.promotion import rollback
from qaconv.serving.messages import NewSighting
from qaconv.serving.model_updates import Champions
from qaconv.serving.places import NotFound
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.version_switch import VersionSwitch
from tests.small_service import SETTINGS, crop, small_model
from tests.tracked_projects import adapt, retrain, write_project


def follow(champions: Champions, service: Service) -> bool:
    """Look for a new champion once, as the one process of a service."""
    switch = VersionSwitch(champions, service, champions.active[1], 0, 1)
    return switch.follow()


def test_the_service_follows_a_promotion_and_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    params = write_project(tmp_path)
    retrain(params)
    champions = Champions("qaconv", tmp_path / "served")
    service = Service(Records(tmp_path / "state"), SETTINGS, *champions.active_version())
    assert service.active.version == "1"

    retrain(params, {"station": 0.75, "mall": 0.5})
    assert follow(champions, service)
    assert service.active.version == "2"

    rollback("qaconv", "2", "confuses twins")
    assert follow(champions, service)
    assert service.active.version == "1"
    assert not follow(champions, service)


def test_a_sites_service_follows_its_own_champion_and_without_one_that_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    params = write_project(tmp_path)
    retrain(params)
    station, mall = (Champions("qaconv", tmp_path / name / "served", name) for name in ("station", "mall"))
    service = Service(Records(tmp_path / "state"), SETTINGS, *station.active_version())
    assert (service.active.version, list(service.active.galleries)) == ("1", ["station"])
    with pytest.raises(NotFound, match="unknown target 'mall', allowed: station"):
        service.active.find("mall")

    adapt(params)
    assert follow(station, service) and not follow(station, service)
    assert (service.active.version, list(service.active.galleries)) == ("2", ["station"])
    assert mall.active_version()[0] == "1"
    assert Champions("qaconv", tmp_path / "station/served", "station").active_version()[0] == "2"
    assert Champions("qaconv", tmp_path / "station/served").active_version()[0] == "1"  # restarted for all targets

    rollback("qaconv", "2", "confuses twins")
    assert Champions("qaconv", tmp_path / "other", "station").active_version()[0] == "1"


class SmallRegistry:
    """A registry of one version, number 1, whose model `run_id` made; its encoder names the run."""

    def __init__(self, run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_id = run_id
        monkeypatch.setattr("qaconv.serving.model_updates.find_holder", self.find_release)
        monkeypatch.setattr("qaconv.serving.model_updates.download_served", self.download_served)
        monkeypatch.setattr("qaconv.serving.model_updates.find_champion", self.find_release)

    def find_release(self, name: str, *_: str | None) -> Release:
        return Release(name, "1", {}, self.run_id)

    def download_served(self, release: Release, folder: Path) -> None:
        small_model(folder, encoder=self.run_id)


def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Champions, Service]:
    """Start a service on the champion of a registry."""
    SmallRegistry("one", monkeypatch)
    champions = Champions("qaconv", folder / "served")
    return champions, Service(Records(folder / "state"), SETTINGS, *champions.active_version())


def test_the_same_number_in_another_registry_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions, service = start(tmp_path, monkeypatch)
    (sighting,) = service.enrol("mall", [NewSighting(crop(0), 0)]).ids
    assert not follow(champions, service)

    SmallRegistry("other", monkeypatch)
    assert follow(champions, service) and not follow(champions, service)
    one, other = (small_model(tmp_path / name, name).encoder_digest for name in ("one", "other"))
    assert service.active.model.encoder_digest == other
    assert service.records.map_of(sighting, other, (3, 2, 1)) is not None
    assert service.records.map_of(sighting, one, (3, 2, 1)) is None
    assert champions.active_version()[1].encoder_digest == other


def test_a_version_that_is_known_by_its_number_alone_answers_until_the_champion_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small_model(tmp_path / "served/1", "before").encoder_digest
    (tmp_path / "served/in_charge.json").write_text('{"version": "1"}')
    champions, service = start(tmp_path, monkeypatch)
    assert service.active.model.encoder_digest == before
    assert follow(champions, service) and not follow(champions, service)
    assert service.active.model.encoder_digest == small_model(tmp_path / "one", "one").encoder_digest
    assert not (tmp_path / "served/1").exists()


def test_a_damaged_version_is_named_and_the_present_one_stays_until_it_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions, service = start(tmp_path, monkeypatch)
    present = service.active

    class Damaged(SmallRegistry):
        def download_served(self, release: Release, folder: Path) -> None:
            super().download_served(release, folder)
            (folder / "tlift/mall.json").write_text("{", encoding="utf-8")

    Damaged("other", monkeypatch)
    for _ in range(2):
        with pytest.raises(InputError, match=r"qaconv version 1 cannot be served: .*mall\.json"):
            follow(champions, service)
    assert service.active is present
    assert [path.name for path in (tmp_path / "served").iterdir() if path.is_dir()] == ["1-one"]
    SmallRegistry("other", monkeypatch)
    assert follow(champions, service)


def test_a_damaged_version_next_to_the_galleries_is_refused_with_what_to_delete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallRegistry("one", monkeypatch)
    champions = Champions("qaconv", tmp_path / "served")
    champions.active_version()
    (tmp_path / "served/1-one/encoder.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"encoder\.onnx: .*served to load the champion again"):
        champions.active_version()
