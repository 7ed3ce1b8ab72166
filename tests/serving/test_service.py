"""Enrolment, searches, and changes of the version that answers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from qaconv.runtime.quantise import dequantise
from qaconv.serving.active_version import Full
from qaconv.serving.messages import Enrolled, Limits, NewSighting, Query
from qaconv.serving.places import NotFound
from qaconv.serving.service import Service
from qaconv.serving.stored_maps import quantise_maps
from tests.small_service import ANY, SETTINGS, crop, enrol, find, small_model, small_service, switch_version


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def corrupt(service: Service, *ids: int) -> None:
    """Make stored crops such that this version's decoder refuses them, as an earlier version's did not."""
    for sighting in ids:
        service.records._connection.execute("UPDATE sightings SET crop = ? WHERE id = ?", (crop(0)[:60], sighting))


def test_a_restart_finds_enrolled_sightings_and_no_deleted_ones(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    ids = enrol(service, 6)
    service.delete(ids[:2])
    before = find(service, 4)
    service.records.close()
    assert find(small_service(tmp_path), 4) == before
    assert not set(ids[:2]) & set(before)


def test_filters_keep_cameras_and_times(service: Service) -> None:
    ids = enrol(service, 9)
    assert sorted(find(service, 0, Limits(camids=frozenset([1])), 9)) == ids[1::3]
    assert sorted(find(service, 0, Limits(from_s=20, to_s=50), 9)) == ids[2:6]
    assert find(service, 0, Limits(camids=frozenset([2]), to_s=10), 9) == []


def test_a_search_finds_no_sighting_of_another_target(service: Service) -> None:
    ids = enrol(service, 2)
    (matches,) = service.search("station", [Query([crop(0)])], ANY, 5).results
    assert matches == []
    with pytest.raises(NotFound, match=f"station has no sighting {ids[0]}"):
        service.crop("station", ids[0])


def test_an_unknown_camera_is_refused_and_nothing_is_stored(service: Service) -> None:
    with pytest.raises(NotFound, match=r"camid: mall has no camera \[7\]; it has \[0, 1, 2\]"):
        service.enrol("mall", [NewSighting(crop(0), 0), NewSighting(crop(1), 7)])
    assert service.records.count() == 0


def test_an_enrolment_that_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    service.active.__dict__["capacity"] = 3
    enrol(service, 2)
    with pytest.raises(Full, match="2 sightings are stored; serve.memory_mb has room for 3"):
        enrol(service, 2, first=2)
    assert service.records.count() == 2


def test_a_new_version_answers_once_all_crops_are_encoded_and_searches_never_stop(
    service: Service, tmp_path: Path
) -> None:
    enrol(service, 40)
    versions: set[str] = set()
    lengths: set[int] = set()
    stop = threading.Event()

    def keep_searching() -> None:
        while not stop.is_set():
            answer = service.search("mall", [Query([crop(0)])], ANY, 50)
            versions.add(answer.version)
            lengths.add(len(answer.results[0]))

    searching = threading.Thread(target=keep_searching)
    searching.start()
    switch_version(service, "2", small_model(tmp_path / "new", "another encoder"))
    while "2" not in versions and searching.is_alive():
        time.sleep(0.01)
    stop.set()
    searching.join()
    assert versions <= {"1", "2"} and lengths == {40}
    assert service.records.missing_maps(service.active.model.encoder_digest, 0, 1) == []


def test_sightings_enrolled_after_a_change_of_versions_are_found_with_the_old(service: Service, tmp_path: Path) -> None:
    before = enrol(service, 2)
    switch_version(service, "2", small_model(tmp_path / "new", "another encoder"))
    service.records.forget_other_encoders(service.active.model.encoder_digest)
    after = enrol(service, 2, first=2)
    assert sorted(find(service, 0)) == before + after


def test_correspondences_of_all_locations_sum_to_the_logit(service: Service) -> None:
    ids = enrol(service, 2)
    pairs = service.explain("mall", Query([crop(0)]), ids[1], 100)
    maps = service._encoder.encode(service.active.model, [crop(0), crop(1)], [0, 1])
    stored = dequantise(quantise_maps(maps))
    cosines = maps[0].reshape(3, 2).T @ stored[1].T
    expected = 0.5 * (cosines.max(axis=0).sum() + cosines.max(axis=1).sum())
    assert sum(pair.share for pair in pairs) == pytest.approx(expected, rel=1e-3)
    assert {pair.asked_by for pair in pairs} == {"query", "gallery"} and len(pairs) == 4


def test_a_stored_crop_that_is_refused_stops_no_new_version_and_no_start(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qaconv.serving.reencoding.BATCH", 2)
    ids = enrol(service, 6)
    corrupt(service, *ids[1:4])
    model = small_model(tmp_path / "new", "another encoder")
    switch_version(service, "2", model)
    assert service.active.version == "2" and not service.reencoding
    assert sorted(find(service, 0)) == [ids[0], *ids[4:]]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"sighting {sighting}: image: cannot be decoded as PNG: ends early; no search finds it: delete it, and enrol "
        "another file"
        for sighting in ids[1:4]
    ]
    assert sorted(find(Service(service.records, SETTINGS, "2", model), 0)) == [ids[0], *ids[4:]]
    with pytest.raises(NotFound, match="its image is no longer decoded"):
        service.search("mall", [Query(sighting=ids[1])], ANY, 5)


def test_an_error_while_crops_are_encoded_again_ends_the_encoding(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(service, 2)
    monkeypatch.setattr(service.records, "add_maps", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        switch_version(service, "2", small_model(tmp_path / "new", "another encoder"))
    assert not service.reencoding and service.active.version == "1"


def test_sightings_of_a_target_without_a_profile_take_no_room_before_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(tmp_path)
    service.enrol("station", [NewSighting(crop(number), 0) for number in range(3)])
    model = small_model(tmp_path / "new", targets=["mall"])
    monkeypatch.setattr("qaconv.serving.active_version.SIGHTING_BYTES", 2**20 // 8)  # room for two
    switch_version(service, "2", model)
    enrol(service, 2)
    with pytest.raises(Full, match="2 sightings are stored; serve.memory_mb has room for 2"):
        enrol(service, 1, first=5)
    assert len(find(Service(service.records, SETTINGS, "2", model), 0)) == 2


def test_an_enrolment_that_fails_in_memory_is_not_on_disk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.active.galleries["mall"], "add", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        enrol(service, 2)
    assert service.records.count() == 0


def test_an_equal_sighting_is_stored_once_and_any_difference_makes_another(service: Service) -> None:
    first = NewSighting(crop(0), 0, 1.5, "ada")
    others = [
        NewSighting(crop(1), 0, 1.5, "ada"),
        NewSighting(crop(0), 1, 1.5, "ada"),
        NewSighting(crop(0), 0, None, "ada"),
        NewSighting(crop(0), 0, 1.5),
    ]
    assert service.enrol("mall", [first, first]) == Enrolled([1, 1], known=1)
    assert service.enrol("mall", [*others, first, others[2]]) == Enrolled([2, 3, 4, 5, 1, 4], known=2)
    assert service.enrol("station", [first]).known == 0
    assert len(service.active.galleries["mall"]) == 5
    service.delete([1])
    assert service.enrol("mall", [first]) == Enrolled([7], known=0)


def test_equal_enrolments_at_the_same_time_store_each_sighting_once(service: Service) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: enrol(service, 8), range(4)))
    assert ids == [ids[0]] * 4
    assert len(service.page("mall", 0, 100)) == 8


def test_a_full_service_still_answers_for_what_is_stored(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    ids = enrol(service, 2)
    service.active = replace(service.active, capacity=2)
    assert enrol(service, 2) == ids
