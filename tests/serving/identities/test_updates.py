"""Identities of sightings in a service: updates, merges and splits, deletion."""

import struct
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from qaconv.errors import InputError
from qaconv.reviews.table import Verdict
from qaconv.runtime.model import ServedModel
from qaconv.serving.database import DiskFull
from qaconv.serving.identities import store, updates
from qaconv.serving.identities.store import Edge
from qaconv.serving.identities.views import Wanted
from qaconv.serving.messages import NewSighting
from qaconv.serving.places import NotFound
from qaconv.serving.reviews.reviews import Answered, Reviews
from qaconv.serving.service import Service
from tests.small_identities import (
    colour_model,
    colour_service,
    enrol_people,
    identities,
    seen,
    update,
    wait,
)
from tests.small_service import small_service, switch_version

ANYONE = Wanted()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return colour_service(tmp_path)


def groups(service: Service) -> list[list[int]]:
    """Return the sightings of each identity, by its number."""
    members = defaultdict(list)
    for sighting, identity in identities(service).items():
        members[identity].append(sighting)
    return [members[identity] for identity in sorted(members)]


def test_sightings_of_one_person_get_one_number_and_those_of_others_another(service: Service) -> None:
    ids = enrol_people(service, 9)
    update(service)
    assert groups(service) == [ids[0::3], ids[1::3], ids[2::3]]
    state, progress = service.identities.state("mall")
    assert (state.wanted, state.last, progress.searched, progress.fault) == (True, 3, 9, None)


def test_an_update_keeps_numbers_searches_for_new_sightings_alone_and_is_wanted_from_then_on(service: Service) -> None:
    enrol_people(service, 6)
    service.identities.updates.start_wanted()
    assert identities(service) == {}
    update(service)
    before = identities(service)
    enrol_people(service, 3, first=6)
    service.identities.updates.start_wanted()
    wait(service)
    after = identities(service)
    assert len(after) == 9 and {sighting: after[sighting] for sighting in before} == before
    assert set(after.values()) == {1, 2, 3}
    assert service.identities.state("mall")[1].searched == 3


def test_an_update_that_stopped_after_a_batch_continues_with_the_next(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "BATCH", 2)
    ids = enrol_people(service, 7)
    add_edges = service.identities._store.add_edges
    batches: list[list[int]] = []

    def add_and_stop(target: str, model: str, batch: list[int], edges: list[Edge]) -> bool:
        batches.append(batch)
        service.identities.updates._stopped.set()
        return add_edges(target, model, batch, edges)

    monkeypatch.setattr(service.identities._store, "add_edges", add_and_stop)
    update(service)
    service.records.close()
    assert batches == [ids[:2]]
    service = colour_service(tmp_path)
    assert identities(service) == {ids[0]: 0, ids[1]: 0}
    service.identities.updates.start_wanted()
    wait(service)
    assert groups(service) == [ids[0::3], ids[1::3], ids[2::3]]
    assert service.identities.state("mall")[1].searched == 5


def test_deleted_sightings_leave_neither_identity_nor_edge_nor_change_in_the_file(
    service: Service, tmp_path: Path
) -> None:
    ids = enrol_people(service, 6)
    update(service)
    service.identities.merge("mall", 1, 2, "a rare name")
    odds = 12.345678901234567  # a number that is found by its bytes
    digest = service.identities.state("mall")[0].edges_of
    service.identities._store.add_edges("mall", digest, [], [Edge(ids[0], ids[1], odds)])
    assert_bytes(tmp_path, odds, present=True)
    service.delete([ids[0], ids[1], ids[3], ids[4]])
    assert_bytes(tmp_path, odds, present=False)
    store = service.identities._store
    assert groups(service) == [[ids[2], ids[5]]]
    assert store.changes("mall", 1) == []
    assert {edge[:2] for edge in store.edges("mall")} == {(ids[2], ids[5])}
    with pytest.raises(NotFound, match="mall has no identity 1"):
        service.identities.show("mall", 1)


def test_on_a_full_disk_edges_are_deleted_a_few_at_a_time_and_are_found_again_if_their_sightings_stay(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "EDGES", 2)
    ids = enrol_people(service, 9)
    update(service)
    stored = service.identities._store
    before = stored.edges("mall")
    stored.forget_edges(ids[:2])
    assert stored.edges("mall") == [edge for edge in before if not {edge.first, edge.second} & set(ids[:2])]
    service.identities.updates.start_wanted()
    wait(service)
    assert stored.edges("mall") == before
    monkeypatch.setattr(service.records, "is_nearly_full", lambda: True)
    service.delete(ids[:8])
    assert stored.edges("mall") == []


def assert_bytes(folder: Path, odds: float, *, present: bool) -> None:
    stored = b"".join(path.read_bytes() for path in (folder / "state").glob("galleries.db*"))
    assert (struct.pack(">d", odds) in stored) == present
    assert (b"a rare name" in stored) == present


def test_retention_ends_the_identities_of_expired_sightings(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    enrol_people(service, 3)
    update(service)
    monkeypatch.setitem(service.settings.retention_days, "mall", 1)
    service.records._connection.execute("UPDATE sightings SET enrolled_s = 0 WHERE id = 1")
    service.delete_expired()
    assert identities(service) == {2: 2, 3: 3}


def test_a_number_is_never_given_again(service: Service) -> None:
    ids = enrol_people(service, 3)
    update(service)
    service.delete(ids)
    enrol_people(service, 3, first=3)
    update(service)
    assert set(identities(service).values()) == {4, 5, 6}
    assert service.identities.forget("mall") == 3
    assert identities(service) == {} and not service.identities.state("mall")[0].wanted
    update(service)
    assert set(identities(service).values()) == {7, 8, 9}


def fitted_again(model: ServedModel) -> ServedModel:
    """Return a model whose profile differs in a text alone."""
    model.profiles["mall"] = replace(model.profiles["mall"], reason="fitted again")
    return model


@pytest.mark.parametrize("encoder", ["encoder", "another encoder"])
def test_a_new_version_computes_identities_again_and_keeps_the_numbers(
    service: Service, tmp_path: Path, encoder: str
) -> None:
    enrol_people(service, 9)
    update(service)
    before = identities(service)
    switch_version(service, "2", fitted_again(colour_model(tmp_path / "new", encoder)))
    assert identities(service) == before
    service.identities.updates.start_wanted()
    wait(service)
    assert identities(service) == before and service.identities.state("mall")[1].searched == 9


def test_a_version_that_begins_to_answer_during_an_update_ends_it_without_mixing_edges(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol_people(service, 3)
    find_edges = updates.find_edges

    def find_and_change(*arguments: object) -> list[Edge]:
        if service.active.version == "1":
            switch_version(service, "2", colour_model(tmp_path / "new", "another encoder"))
        return find_edges(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(updates, "find_edges", find_and_change)
    update(service)
    assert identities(service) == {} and service.identities._store.edges("mall") == []
    service.identities.updates.start_wanted()
    wait(service)
    assert set(identities(service).values()) == {1, 2, 3}


def test_merges_and_splits_hold_through_updates_and_say_who_asked(service: Service, tmp_path: Path) -> None:
    ids = enrol_people(service, 6)
    update(service)
    service.identities.merge("mall", 1, 2, "desk")
    assert service.identities.split("mall", 3, [ids[5]], "desk") == 4
    expected = {ids[0]: 1, ids[1]: 1, ids[2]: 3, ids[3]: 1, ids[4]: 1, ids[5]: 4}
    assert identities(service) == expected
    switch_version(service, "2", fitted_again(colour_model(tmp_path / "new")))
    update(service)
    assert identities(service) == expected
    changes = service.identities.show("mall", 1)[1] + service.identities.show("mall", 3)[1]
    assert [(change.kind, change.other, change.who) for change in changes] == [
        ("merge", 2, "desk"),
        ("split", 4, "desk"),
    ]


def review(service: Service, first: int, second: int, answer: Verdict, reviewer: str = "desk") -> None:
    Reviews(service).answer("mall", [Answered(first, second, answer)], reviewer, "identities")
    service.identities.updates.start_wanted()
    wait(service)


def test_reviewed_pairs_join_and_separate_identities_unless_reviewers_contradict_each_other(service: Service) -> None:
    ids = enrol_people(service, 6)
    update(service)
    review(service, ids[0], ids[1], "same")
    assert groups(service) == [[ids[0], ids[1], ids[3], ids[4]], [ids[2], ids[5]]]
    review(service, ids[2], ids[5], "different")
    assert groups(service) == [[ids[0], ids[1], ids[3], ids[4]], [ids[2]], [ids[5]]]
    review(service, ids[2], ids[5], "same", "another")
    assert groups(service)[0] == [ids[0], ids[1], ids[3], ids[4]]


def test_a_split_counts_more_than_an_earlier_review_and_less_than_a_later_one(service: Service) -> None:
    ids = enrol_people(service, 6)
    update(service)
    review(service, ids[0], ids[1], "same")
    service.identities.split("mall", 1, [ids[1], ids[4]], "desk")
    update(service)
    assert groups(service) == [[ids[0], ids[3]], [ids[2], ids[5]], [ids[1], ids[4]]]
    review(service, ids[0], ids[1], "same")
    assert groups(service)[0] == [ids[0], ids[1], ids[3], ids[4]]


def test_new_sightings_join_an_identity_that_a_person_has_merged(service: Service) -> None:
    enrol_people(service, 6)
    update(service)
    service.identities.merge("mall", 1, 2, "desk")
    new = enrol_people(service, 3, first=6)
    update(service)
    assert [identities(service)[sighting] for sighting in new] == [1, 1, 3]


def test_a_merge_that_cannot_be_stored_as_an_answer_changes_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk(*arguments: object) -> None:
        raise DiskFull

    enrol_people(service, 6)
    update(service)
    before = identities(service)
    monkeypatch.setattr(store, "store_answer", fill_disk)
    with pytest.raises(DiskFull):
        service.identities.merge("mall", 1, 2, "desk")
    assert identities(service) == before
    assert service.identities.show("mall", 1)[1] == []


def test_a_merge_or_split_that_makes_no_sense_is_refused(service: Service) -> None:
    ids = enrol_people(service, 6)
    update(service)
    with pytest.raises(InputError, match="other must be another identity than 1, got 1"):
        service.identities.merge("mall", 1, 1, "desk")
    with pytest.raises(NotFound, match="mall has no identity 9"):
        service.identities.merge("mall", 1, 9, "desk")
    with pytest.raises(InputError, match=f"sightings must be of identity 1, got \\[{ids[1]}\\]"):
        service.identities.split("mall", 1, [ids[0], ids[1]], "desk")
    with pytest.raises(InputError, match="sightings must leave one in identity 1, got all 2"):
        service.identities.split("mall", 1, [ids[0], ids[3]], "desk")
    assert groups(service) == [[ids[0], ids[3]], [ids[1], ids[4]], [ids[2], ids[5]]]


def test_a_target_whose_profile_has_no_odds_is_refused(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    with pytest.raises(InputError, match="need probabilities that hold for the target.*`qaconv identify --target"):
        service.identities.start("mall")
    assert not service.identities.state("mall")[0].wanted


def test_lists_are_filtered_ordered_and_paged(service: Service) -> None:
    enrol_people(service, 9)
    service.enrol("mall", [seen(0, 30, 1)])
    update(service)

    def listed(wanted: Wanted = ANYONE, skip: int = 0, limit: int = 9) -> tuple[int, list[int]]:
        total, page = service.identities.list_identities("mall", wanted, skip, limit, least_certain_first=False)
        return total, [identity.identity for identity in page]

    assert listed() == (3, [1, 2, 3])
    assert listed(skip=1, limit=1) == (3, [2])
    assert listed(Wanted(from_s=800)) == (2, [1, 3])
    assert listed(Wanted(to_s=100)) == (2, [1, 2])
    assert listed(Wanted(camids=[0], from_s=800)) == (0, [])
    assert listed(Wanted(camids=["1", "2"])) == (3, [1, 2, 3])
    assert listed(Wanted(cameras=4)) == (0, [])
    with pytest.raises(NotFound, match="camid: mall has no camera"):
        listed(Wanted(camids=[7]))


def test_the_least_certain_identity_comes_first(service: Service) -> None:
    enrol_people(service, 3)
    update(service)
    for sighting, probability in ((1, 0.9), (2, 0.2), (3, 0.5)):
        service.records._connection.execute(
            "UPDATE identities SET probability = ? WHERE sighting = ?", (probability, sighting)
        )
    _, page = service.identities.list_identities("mall", Wanted(), 0, 9, least_certain_first=True)
    assert [(identity.identity, identity.probability) for identity in page] == [(2, 0.2), (3, 0.5), (1, 0.9)]


def test_journeys_are_visits_in_order_of_time_and_those_without_one_come_last(service: Service) -> None:
    ids = enrol_people(service, 6)
    untimed = service.enrol("mall", [NewSighting(seen(2, 19).image, 2, None)]).ids
    update(service)
    total, visits = service.identities.list_journeys("mall", Wanted(), 0, 50)
    assert total == len(visits) == 7
    assert [visit.image for visit in visits] == [*ids, *untimed]
    shown, _ = service.identities.show("mall", 3)
    assert [[member.id for member in visit.members or []] for visit in shown] == [[ids[2]], [ids[5]], untimed]
    assert [visit.visit for visit in shown] == [0, 1, 2]


def test_a_camera_that_a_later_profile_numbers_differently_stays_one_camera(service: Service) -> None:
    enrol_people(service, 6)
    service.records._connection.execute("UPDATE sightings SET camera = 'roof' WHERE id IN (1, 4)")
    update(service)
    _, (identity, *_) = service.identities.list_identities("mall", Wanted(), 0, 9, least_certain_first=False)
    assert (identity.sightings, identity.cameras) == (2, 1)


def test_sightings_at_a_camera_that_the_profile_lacks_get_an_identity(service: Service) -> None:
    enrol_people(service, 3)
    service.records._connection.execute("UPDATE sightings SET camera = 'roof' WHERE id = 2")
    update(service)
    total, visits = service.identities.list_journeys("mall", Wanted(), 0, 50)
    assert total == 3
    assert [(visit.camid, visit.camera) for visit in visits if visit.image == 2] == [(-1, "roof")]
