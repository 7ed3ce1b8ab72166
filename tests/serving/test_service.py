import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from qaconv.runtime.contract import Decision, LogitThreshold, Probability, Score
from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter
from qaconv.serving.messages import Enrolled, NewSighting, Query
from qaconv.serving.service import DAY_S, Full, NotFound, Service
from qaconv.serving.storage import DiskFull
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from tests.small_service import SETTINGS, crop, small_model, small_service

ANY = Filter()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def enrol(service: Service, count: int, person: str | None = None, first: int = 0) -> list[int]:
    sightings = [NewSighting(crop(first + number), number % 3, 10.0 * number, person) for number in range(count)]
    return service.enrol("mall", sightings).ids


def find(service: Service, seed: int, only: Filter = ANY, top_k: int = 5) -> list[int]:
    (matches,) = service.search("mall", [Query(crop(seed))], only, top_k).results
    return [match.id for match in matches]


def test_scores_are_the_matchers_on_the_encoders_maps(service: Service) -> None:
    ids = enrol(service, 3)
    model = service.active.model
    maps = np.concatenate([service._encoder.encode(model, [crop(number)]) for number in range(3)])
    expected = model.score(maps[:1], maps.astype(np.float16))[0]
    (matches,) = service.search("mall", [Query(crop(0))], ANY, 3).results
    assert {match.id: match.score for match in matches} == dict(zip(ids, expected.tolist(), strict=True))
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)


def test_without_a_threshold_the_strictest_of_the_model_decides(tmp_path: Path) -> None:
    other = small_service(tmp_path / "other")
    enrol(other, 6)
    logits = sorted(match.score for match in other.search("mall", [Query(crop(0))], ANY, 6).results[0])
    service = small_service(tmp_path)
    enrol(service, 6)
    rows = [
        LogitThreshold(false_match_rate=rate, threshold=logits[rank], true_match_rate=0.5)
        for rate, rank in ((0.01, 1), (0.001, 4))
    ]
    score = Score(better="higher", probability=Probability(scale=1e-6, offset=0), decision=Decision(thresholds=rows))
    model = service.active.model
    model.contract = model.contract.model_copy(update={"score": score})
    answer = service.search("mall", [Query(crop(0))], ANY, 6)
    assert answer.threshold == pytest.approx(1 / (1 + np.exp(-1e-6 * logits[4])))
    assert [match.match for match in answer.results[0]] == [True] + [False] * 5
    assert [match.match for match in service.search("mall", [Query(crop(0))], ANY, 6, 0.0).results[0]] == [True] * 6


def with_match_odds(model: ServedModel) -> ServedModel:
    """Give the profile of mall odds of a match."""
    odds = MatchOdds(Calibration([-5.0, 5.0], [-9.0, 3.0]), 0.7, sightings=4, span_s=50.0)
    model.profiles["mall"] = replace(model.profiles["mall"], match_odds=odds)
    return model


def test_probabilities_are_the_target_s_by_default_and_at_even_odds_where_the_search_asks_for_it(
    service: Service,
) -> None:
    enrol(service, 6)
    source = service.search("mall", [Query(crop(0))], ANY, 6)
    model = with_match_odds(service.active.model)
    target, even = (service.search("mall", [Query(crop(0))], ANY, 6, even_odds=even) for even in (False, True))
    assert (target.probability_from, target.threshold) == ("target", 0.7)
    assert even == source and (even.probability_from, even.threshold) == ("source", model.threshold)
    assert all(match.match == (match.probability > 0.7) for match in target.results[0])
    for stated, before in zip(target.results[0], source.results[0], strict=True):
        assert (stated.id, stated.score) == (before.id, before.score) and stated.probability < before.probability


def test_more_sightings_of_others_lower_the_probability(service: Service) -> None:
    enrol(service, 6)
    with_match_odds(service.active.model)
    (first,) = service.search("mall", [Query(crop(0))], ANY, 6).results
    enrol(service, 20, first=100)
    (later,) = service.search("mall", [Query(crop(0))], ANY, 26).results
    then = {match.id: match.probability for match in first}
    assert all(match.probability < then[match.id] for match in later if match.id in then)


def test_a_restart_finds_enrolled_sightings_and_no_deleted_ones(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    ids = enrol(service, 6)
    service.delete("mall", ids[:2])
    before = find(service, 4)
    service.records.close()
    assert find(small_service(tmp_path), 4) == before
    assert not set(ids[:2]) & set(before)


def test_deleted_sightings_are_nowhere_in_the_files(service: Service, tmp_path: Path) -> None:
    enrol(service, 2, person="ada")
    enrol(service, 2, first=10)
    assert service.delete_person("mall", "ada") == 2
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("galleries.db*"))
    assert crop(0)[20:] not in stored and crop(1)[20:] not in stored and b"ada" not in stored
    assert crop(10)[20:] in stored


def test_deleted_sightings_are_overwritten_in_memory(service: Service) -> None:
    ids = enrol(service, 3)
    service.delete("mall", [ids[0]])
    gallery = service.active.galleries["mall"]
    assert len(gallery) == 2 and not gallery._maps[2].any() and not gallery._rows[2].any()
    assert sorted(find(service, 0)) == ids[1:]


def test_filters_keep_cameras_and_times(service: Service) -> None:
    ids = enrol(service, 9)
    assert sorted(find(service, 0, Filter(camids=frozenset([1])), 9)) == ids[1::3]
    assert sorted(find(service, 0, Filter(from_s=20, to_s=50), 9)) == ids[2:6]
    assert find(service, 0, Filter(camids=frozenset([2]), to_s=10), 9) == []


def test_a_stored_sighting_finds_others_and_not_itself(service: Service) -> None:
    ids = enrol(service, 4)
    (matches,) = service.search("mall", [Query(sighting=ids[0])], ANY, 5).results
    assert sorted(match.id for match in matches) == ids[1:]
    assert all(match.lifted is not None for match in matches)  # its own camera and time are known


def test_matches_are_ranked_by_the_lifted_score_where_the_query_has_a_camera_and_a_time(service: Service) -> None:
    ids = enrol(service, 40)
    (matches,) = service.search("mall", [Query(sighting=ids[20])], ANY, 39).results
    lifted = [match.lifted for match in matches if match.lifted is not None]
    scores = [match.score for match in matches]
    assert len(lifted) == 39 and lifted == sorted(lifted, reverse=True)
    assert scores != sorted(scores, reverse=True)
    (first,) = service.search("mall", [Query(sighting=ids[20])], ANY, 5).results
    assert [match.id for match in first] == [match.id for match in matches[:5]]


@pytest.mark.parametrize(("camid", "time_s"), [(None, None), (1, None), (None, 70.0)])
def test_matches_are_ranked_by_the_logit_where_the_query_has_no_camera_or_no_time(
    service: Service, camid: int | None, time_s: float | None
) -> None:
    enrol(service, 40)
    (matches,) = service.search("mall", [Query(crop(7), None, camid, time_s)], ANY, 40).results
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True) and {match.lifted for match in matches} == {None}


def test_a_search_finds_no_sighting_of_another_target(service: Service) -> None:
    ids = enrol(service, 2)
    (matches,) = service.search("station", [Query(crop(0))], ANY, 5).results
    assert matches == []
    with pytest.raises(NotFound, match=f"station has no sighting {ids[0]}"):
        service.crop("station", ids[0])


def test_a_shortlist_has_fewer_sightings_with_the_scores_of_full_matching(tmp_path: Path) -> None:
    short = small_service(tmp_path, SETTINGS.model_copy(update={"shortlist": 5}))
    enrol(short, 60)
    everything = Service(short.records, SETTINGS, "1", short.active.model)

    def scores(service: Service) -> dict[int, float]:
        candidates = service.active.galleries["mall"].search(
            service.active.model, np.ones((3, 2, 1), np.float32), ANY, service.settings.shortlist
        )
        return dict(zip(candidates.ids.tolist(), candidates.logits.tolist(), strict=True))

    assert len(scores(short)) == 5 and len(scores(everything)) == 60
    assert scores(short).items() <= scores(everything).items()


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


def test_retention_deletes_older_sightings_of_its_target_alone(tmp_path: Path) -> None:
    service = small_service(tmp_path, SETTINGS.model_copy(update={"retention_days": {"mall": 1}}))
    old = enrol(service, 2)
    service.records._connection.execute("UPDATE sightings SET enrolled_s = ?", (time.time() - 90_000,))
    kept = service.enrol("station", [NewSighting(crop(0), 0)]).ids + enrol(service, 1, first=5)
    assert service.delete_expired() == len(old)
    assert service.records.count() == len(kept)


def test_a_new_version_answers_once_all_crops_are_encoded_and_searches_never_stop(
    service: Service, tmp_path: Path
) -> None:
    enrol(service, 40)
    versions: set[str] = set()
    lengths: set[int] = set()
    stop = threading.Event()

    def keep_searching() -> None:
        while not stop.is_set():
            answer = service.search("mall", [Query(crop(0))], ANY, 50)
            versions.add(answer.version)
            lengths.add(len(answer.results[0]))

    searching = threading.Thread(target=keep_searching)
    searching.start()
    service.load_version("2", small_model(tmp_path / "new", "another encoder"))
    while "2" not in versions and searching.is_alive():
        time.sleep(0.01)
    stop.set()
    searching.join()
    assert versions <= {"1", "2"} and lengths == {40}
    assert service.records.missing_maps(service.active.model.encoder_digest, 0, 1) == []


def test_sightings_enrolled_after_a_change_of_versions_are_found_with_the_old(service: Service, tmp_path: Path) -> None:
    before = enrol(service, 2)
    service.load_version("2", small_model(tmp_path / "new", "another encoder"))
    service.records.forget_other_encoders(service.active.model.encoder_digest)
    after = enrol(service, 2, first=2)
    assert sorted(find(service, 0)) == before + after


def test_correspondences_of_all_locations_sum_to_the_logit(service: Service) -> None:
    ids = enrol(service, 2)
    pairs = service.explain("mall", Query(crop(0)), ids[1], 100)
    maps = service._encoder.encode(service.active.model, [crop(0), crop(1)]).reshape(2, 3, 2)
    cosines = maps[0].T @ maps[1].astype(np.float16).astype(np.float32)
    expected = 0.5 * (cosines.max(axis=0).sum() + cosines.max(axis=1).sum())
    assert sum(pair.share for pair in pairs) == pytest.approx(expected, rel=1e-3)
    assert {pair.asked_by for pair in pairs} == {"query", "gallery"} and len(pairs) == 4


def corrupt(service: Service, *ids: int) -> None:
    """Make stored crops such that this version's decoder refuses them, as an earlier version's did not."""
    for sighting in ids:
        service.records._connection.execute("UPDATE sightings SET crop = ? WHERE id = ?", (crop(0)[:60], sighting))


def test_a_stored_crop_that_is_refused_stops_no_new_version_and_no_start(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("qaconv.serving.service.BATCH", 2)
    ids = enrol(service, 6)
    corrupt(service, *ids[1:4])
    model = small_model(tmp_path / "new", "another encoder")
    service.load_version("2", model)
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
        service.load_version("2", small_model(tmp_path / "new", "another encoder"))
    assert not service.reencoding and service.active.version == "1"


def test_sightings_of_a_target_without_a_profile_are_deleted_and_expire(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"retention_days": {"station": 1}})
    service = small_service(tmp_path, settings)
    ids = service.enrol("station", [NewSighting(crop(number), 0, person="ada") for number in range(3)]).ids
    ids += service.enrol("station", [NewSighting(crop(10 + number), 0) for number in range(2)]).ids
    service.load_version("2", small_model(tmp_path / "new", targets=["mall"]))
    assert service.delete_person("station", "ada") == 3
    assert service.delete("station", [service.sighting("station", ids[3]).id]) == 1
    service.records._connection.execute("UPDATE sightings SET enrolled_s = 0")
    assert service.delete_expired() == 1 and service.records.count() == 0
    with pytest.raises(NotFound, match="unknown target 'station', allowed: mall"):
        service.delete_person("station", "ada")


def test_sightings_of_a_target_without_a_profile_take_no_room_before_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = small_service(tmp_path)
    service.enrol("station", [NewSighting(crop(number), 0) for number in range(3)])
    model = small_model(tmp_path / "new", targets=["mall"])
    monkeypatch.setattr("qaconv.serving.service.sighting_bytes", lambda _: 2**20 // 4)  # room for two
    service.load_version("2", model)
    enrol(service, 2)
    with pytest.raises(Full, match="2 sightings are stored; serve.memory_mb has room for 2"):
        enrol(service, 1, first=5)
    assert len(find(Service(service.records, SETTINGS, "2", model), 0)) == 2


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
        "sightings": lambda: service.delete("mall", old),
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


def test_an_enrolment_that_fails_in_memory_is_not_on_disk(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.active.galleries["mall"], "add", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        enrol(service, 2)
    assert service.records.count() == 0


def test_a_camera_that_the_new_versions_profile_lacks_is_matched_without_time_and_that_is_logged(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = enrol(service, 30)
    model = small_model(tmp_path / "new")
    model.profiles["mall"] = replace(model.profiles["mall"], camids=(0, 1))
    service.load_version("2", model)
    assert "mall: the profile of version 2 lacks the cameras [2]" in caplog.text
    lost, kept = ids[2], ids[1]  # at cameras 2 and 1
    (timed,) = service.search("mall", [Query(crop(100), camid=0, time_s=200.0)], ANY, 30).results
    assert {match.id for match in timed} == set(ids)
    assert all(match.lifted is not None for match in timed)
    (later,) = service.search("mall", [Query(crop(100), camid=0, time_s=9000.0)], ANY, 30).results
    order = [[match.id for match in matches if match.camid == 2] for matches in (timed, later)]
    assert order[0] == order[1]
    (by_lost,) = service.search("mall", [Query(sighting=lost)], ANY, 30).results
    assert len(by_lost) == 29 and by_lost[0].lifted is None
    (by_kept,) = service.search("mall", [Query(sighting=kept)], ANY, 30).results
    assert len(by_kept) == 29 and by_kept[0].lifted is not None


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
    service.delete("mall", [1])
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
