"""Deletion and retention, on disk, in memory, and by a clock that may be wrong."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from qaconv.serving.database import DiskFull
from qaconv.serving.messages import NewSighting
from qaconv.serving.places import NotFound
from qaconv.serving.service import DAY_S, Service
from tests.small_service import SETTINGS, crop, enrol, find, small_model, small_service, switch_version


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def test_deleted_sightings_are_nowhere_in_the_files(service: Service, tmp_path: Path) -> None:
    enrol(service, 2, person="ada")
    enrol(service, 2, first=10)
    assert service.delete_person("mall", "ada") == 2
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("galleries.db*"))
    assert crop(0)[20:] not in stored and crop(1)[20:] not in stored and b"ada" not in stored
    assert crop(10)[20:] in stored


def test_deleted_sightings_are_overwritten_in_memory(service: Service) -> None:
    ids = enrol(service, 3)
    service.delete([ids[0]])
    gallery = service.active.galleries["mall"]
    slots, codes = gallery.maps._slots, gallery.maps._codes
    assert len(gallery) == 2 and gallery._ids[2] == 0 and not gallery._vectors.codes[2].any()
    assert sorted(slots) == ids[1:] and [codes[slot].any() for slot in range(3)] == [False, True, True]
    assert sorted(find(service, 0)) == ids[1:]


def test_retention_deletes_older_sightings_of_its_target_alone(tmp_path: Path) -> None:
    service = small_service(tmp_path, SETTINGS.model_copy(update={"retention_days": {"mall": 1}}))
    old = enrol(service, 2)
    service.records._connection.execute("UPDATE sightings SET enrolled_s = ?", (time.time() - 90_000,))
    kept = service.enrol("station", [NewSighting(crop(0), 0)]).ids + enrol(service, 1, first=5)
    assert service.delete_expired() == len(old)
    assert service.records.count() == len(kept)


def test_sightings_of_a_target_without_a_profile_are_deleted_and_expire(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"retention_days": {"station": 1}})
    service = small_service(tmp_path, settings)
    ids = service.enrol("station", [NewSighting(crop(number), 0, person="ada") for number in range(3)]).ids
    ids += service.enrol("station", [NewSighting(crop(10 + number), 0) for number in range(2)]).ids
    switch_version(service, "2", small_model(tmp_path / "new", targets=["mall"]))
    assert service.delete_person("station", "ada") == 3
    assert service.delete([service.sighting("station", ids[3]).id]) == 1
    service.records._connection.execute("UPDATE sightings SET enrolled_s = 0")
    assert service.delete_expired() == 1 and service.records.count() == 0
    with pytest.raises(NotFound, match="unknown target 'station', allowed: mall"):
        service.delete_person("station", "ada")


@pytest.mark.parametrize("way", ["person", "sightings", "retention"])
def test_a_deletion_that_fails_half_way_is_as_far_in_memory_as_on_disk_and_can_be_repeated(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.serving.service.DELETED", 2)
    service = small_service(tmp_path, SETTINGS.model_copy(update={"retention_days": {"mall": 1}}))
    old = enrol(service, 5, person="ada")
    service.records._connection.execute("UPDATE sightings SET enrolled_s = 0")
    kept = enrol(service, 1, first=5)
    delete = {
        "person": lambda: service.delete_person("mall", "ada"),
        "sightings": lambda: service.delete(old),
        "retention": service.delete_expired,
    }[way]
    delete_on_disk = service.records.delete

    def delete_first_ones(ids: Sequence[int]) -> None:
        if list(ids) != old[:2]:
            raise DiskFull
        delete_on_disk(ids)

    with monkeypatch.context() as patch:
        patch.setattr(service.records, "delete", delete_first_ones)
        with pytest.raises(DiskFull):
            delete()
    assert sorted(find(service, 0, top_k=9)) == [*old[2:], *kept] == [row.id for row in service.page("mall", 0, 9)]
    delete()
    assert find(service, 0) == kept
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("galleries.db*"))
    assert crop(0)[20:] not in stored and crop(5)[20:] in stored


@pytest.mark.parametrize("jump_s", [400 * DAY_S, -400 * DAY_S])
def test_a_clock_that_jumps_neither_deletes_nor_dates_sightings(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.model_copy(update={"retention_days": {"mall": 30}})
    service = small_service(tmp_path, settings)
    ids = enrol(service, 2)
    right = time.time()
    monkeypatch.setattr("time.time", lambda: right + jump_s)
    ids += enrol(service, 2, first=2)
    assert service.delete_expired() == 0
    assert "the system's clock is " in caplog.text and len(caplog.records) == 1
    service.records.close()
    service = small_service(tmp_path, settings)
    assert service.delete_expired() == 0
    assert all(abs(sighting.enrolled_s - right) < 60 for sighting in service.page("mall", 0, 9))
    monkeypatch.setattr("time.time", lambda: right)
    assert service.delete_expired() == 0 and service.records.count() == len(ids)


def test_after_a_long_pause_retention_follows_the_clock_a_day_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(tmp_path, SETTINGS.model_copy(update={"retention_days": {"mall": 30}}))
    ids = enrol(service, 2)
    start_s, start = time.time(), time.monotonic()

    def pass_days(system: float, running: float) -> int:
        monkeypatch.setattr("time.time", lambda: start_s + system * DAY_S)
        monkeypatch.setattr("time.monotonic", lambda: start + running * DAY_S)
        return service.delete_expired()

    assert pass_days(0.9, 0) == 0  # a machine that was suspended
    assert pass_days(31.0, 0.1) == 0
    assert pass_days(31.9, 1.0) == 0
    assert pass_days(32.1, 1.2) == len(ids)


def test_the_last_known_time_is_kept_without_enrolments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"retention_days": {"mall": 1.5}})
    service = small_service(tmp_path, settings)
    ids = enrol(service, 2)
    start_s = time.time()
    monkeypatch.setattr("time.time", lambda: start_s + 0.9 * DAY_S)
    assert service.delete_expired() == 0
    service.records.close()
    service = small_service(tmp_path, settings)
    monkeypatch.setattr("time.time", lambda: start_s + 1.8 * DAY_S)
    assert service.delete_expired() == len(ids)
