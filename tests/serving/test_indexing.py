"""Landmarks and vectors: chosen again as a gallery changes, found again after a kill, and gone when deleted."""

import threading
from pathlib import Path

import numpy as np
import pytest

from qaconv.runtime.shortlist import Landmarks
from qaconv.serving.gallery import Gallery
from qaconv.serving.service import Service
from tests.small_service import SETTINGS, enrol, find, small_model, small_service, switch_version

FEWEST, LANDMARKS = 20, 8
SHORT = SETTINGS.model_copy(update={"shortlist": 5})


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries of 20 sightings have 8 landmarks."""
    for name, value in (("FEWEST", FEWEST), ("LANDMARKS", LANDMARKS), ("MOST_DELETED", 1), ("BATCH", 4)):
        monkeypatch.setattr(f"qaconv.serving.indexing.{name}", value)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    service = small_service(tmp_path, SHORT)
    enrol(service, FEWEST)
    return service


def mall(service: Service) -> Gallery:
    return service.active.galleries["mall"]


def stored_vectors(service: Service) -> list[int]:
    return [count for (count,) in service.records.query("SELECT count(*) FROM vectors GROUP BY landmark_set")]


def test_a_gallery_has_landmarks_once_it_has_enough_sightings_and_then_vectors_of_new_ones(service: Service) -> None:
    assert mall(service).landmarks is None and len(find(service, 0, top_k=50)) == FEWEST
    service.update_index()
    landmarks = mall(service).landmarks
    assert landmarks is not None and len(landmarks) == LANDMARKS and len(find(service, 0, top_k=6)) <= 6
    enrol(service, 6, first=50)
    assert mall(service).count_without_vector() == 6
    service.update_index()
    assert mall(service).count_without_vector() == 0 and stored_vectors(service) == [FEWEST + 6]


def test_a_restart_computes_no_vector_again(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.update_index()
    before = mall(service)._vectors
    service.records.close()
    monkeypatch.setattr("qaconv.runtime.shortlist.Landmarks.weigh", lambda *_: 1 / 0)
    again = small_service(tmp_path, SHORT)
    again.update_index()
    assert mall(again).count_without_vector() == 0
    np.testing.assert_array_equal(mall(again)._vectors.codes[:FEWEST], before.codes[:FEWEST])
    np.testing.assert_array_equal(mall(again)._vectors.scales[:FEWEST], before.scales[:FEWEST])


def test_a_gallery_that_has_grown_chooses_landmarks_again_while_it_answers_by_the_old(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.update_index()
    first = mall(service).landmark_set
    enrol(service, 4 * FEWEST, first=FEWEST)
    sets: set[int] = set()

    def search(_: float) -> None:
        assert find(service, 0)
        sets.add(mall(service).landmark_set)

    monkeypatch.setattr(service.indexing, "_pause", search)
    service.update_index()
    assert sets == {first} or sets == {first, first + 1}
    assert mall(service).landmark_set == first + 1 and mall(service).count_without_vector() == 0
    assert stored_vectors(service) == [len(mall(service))]


def test_vectors_go_on_where_they_were_killed(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = iter(range(3))
    with monkeypatch.context() as patch:
        weigh = Landmarks.weigh
        patch.setattr(Landmarks, "weigh", lambda *arguments: (next(batches), weigh(*arguments))[1])
        with pytest.raises(StopIteration):
            service.update_index()
    assert stored_vectors(service) == [12] and mall(service).landmarks is None
    service.records.close()
    again = small_service(tmp_path, SHORT)
    (number,) = [number for (number,) in again.records.query("SELECT number FROM landmark_sets")]
    again.update_index()
    assert mall(again).landmark_set == number and stored_vectors(again) == [FEWEST]


def test_deleted_landmarks_are_nowhere_and_are_chosen_again(service: Service, tmp_path: Path) -> None:
    service.update_index()
    gallery = mall(service)
    chosen = [int(sighting) for sighting in gallery._landmark_ids if sighting]
    enrol(service, 10, first=70)
    ((vector,),) = service.records.query("SELECT vector FROM vectors WHERE sighting = ?", chosen[0])
    assert vector in (tmp_path / "state/galleries.db").read_bytes()
    service.delete(chosen[:1])
    assert vector not in (tmp_path / "state/galleries.db").read_bytes()
    assert gallery.landmarks is not None and len(gallery.landmarks) == LANDMARKS - 1
    assert chosen[0] not in gallery._landmark_ids
    service.records.close()
    service = small_service(tmp_path, SHORT)
    landmarks = mall(service).landmarks
    assert landmarks is not None and len(landmarks) == LANDMARKS - 1
    assert service.records.query("SELECT * FROM vectors WHERE sighting = ?", chosen[0]) == []
    service.delete(chosen[1:2])
    service.update_index()
    landmarks = mall(service).landmarks
    assert (
        landmarks is not None and len(landmarks) == LANDMARKS and not set(chosen[:2]) & set(mall(service)._landmark_ids)
    )


def test_a_new_version_has_its_vectors_before_it_answers_and_the_old_ones_are_deleted(
    service: Service, tmp_path: Path
) -> None:
    service.update_index()
    switch_version(service, "2", small_model(tmp_path / "new", "another encoder"))
    assert mall(service).landmarks is not None and mall(service).count_without_vector() == 0
    assert stored_vectors(service) == [FEWEST]
    assert len(service.records.query("SELECT * FROM landmark_sets")) == 1


def test_an_enrolment_computes_vectors_itself_when_many_sightings_lack_theirs(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.update_index()
    monkeypatch.setattr("qaconv.serving.indexing.MOST_NEW", 8)
    for first in range(100, 160, 6):
        enrol(service, 6, first=first)
    assert mall(service).count_without_vector() < 8 + 6


def test_a_sample_of_searches_is_done_exactly_and_its_recall_is_known(service: Service, tmp_path: Path) -> None:
    find(service, 0)
    service.measure_recall()
    assert service.recall.means() == {}  # all were matched in full
    service.update_index()
    find(service, 0)
    service.measure_recall()
    ((target, (recall, count)),) = service.recall.means().items()
    assert (target, count) == ("mall", 1) and 0 < recall <= 0.5 + 0.01  # a shortlist of 5 holds at most half of ten
    service.recall._due_s.clear()
    find(service, 0)
    switch_version(service, "2", small_model(tmp_path / "new", "another encoder"))
    service.measure_recall()
    assert service.recall.means()["mall"][1] == 1  # the sample was of another version


def test_searches_go_on_while_vectors_are_computed_and_sightings_come_and_go(service: Service) -> None:
    stop = threading.Event()
    faults: list[BaseException] = []

    def keep_searching() -> None:
        try:
            while not stop.is_set():
                assert find(service, 0)
        except BaseException as error:
            faults.append(error)

    searching = threading.Thread(target=keep_searching)
    searching.start()
    service._stopped.set()  # no pauses
    for first in range(100, 200, 20):
        ids = enrol(service, 20, first=first)
        service.update_index()
        service.delete(ids[::2])
    stop.set()
    searching.join()
    assert not faults
