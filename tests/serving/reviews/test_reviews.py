"""People's answers about pairs: which pairs they are asked about, what is stored, and what ends with a sighting."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from qaconv.reviews.sample import SHARED_EVERY
from qaconv.reviews.table import Verdict
from qaconv.serving.app import create_app
from qaconv.serving.auth import Keys, add_key
from qaconv.serving.messages import NewSighting
from qaconv.serving.places import NotFound
from qaconv.serving.reviews.reviews import Answered, Reviews
from qaconv.serving.reviews.store import Source
from qaconv.serving.service import Service
from tests.small_service import SETTINGS, calibrate_gently, crop, enrol, small_model, small_service, switch_version

MALL = "/v1/targets/mall"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    service = small_service(tmp_path)
    calibrate_gently(service.active.model)
    enrol(service, 12)
    return service


@pytest.fixture
def reviews(service: Service) -> Reviews:
    return Reviews(service)


def pairs(reviews: Reviews, reviewer: str = "ada", limit: int = 100) -> list[tuple[int, int]]:
    return [(first.id, second.id) for first, second in reviews.next("mall", reviewer, limit).pairs]


def answer(
    reviews: Reviews, pair: tuple[int, int], verdict: Verdict, reviewer: str = "ada", source: Source = "sample"
) -> None:
    reviews.answer("mall", [Answered(*pair, verdict)], reviewer, source)


def stored(reviews: Reviews, *, disputed: bool = False) -> list[tuple[str, str, str]]:
    return [
        (review.reviewer, review.answer, review.source)
        for review, _, _ in reviews.page("mall", 0, 100, disputed=disputed)
    ]


def test_pairs_are_on_two_cameras_and_each_is_asked_once(service: Service, reviews: Reviews) -> None:
    asked = pairs(reviews)
    assert len(asked) == len(set(asked)) == 48  # of 66 pairs of 12 sightings on three cameras, 18 are on one
    assert all(first < second for first, second in asked)
    assert all(service.sighting("mall", one).camid != service.sighting("mall", other).camid for one, other in asked)


def test_a_target_with_one_camera_has_pairs_of_other_tracks(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    tracks = ["walk", "walk", "stay", None, None]
    service.enrol("mall", [NewSighting(crop(row), 0, track=track) for row, track in enumerate(tracks)])
    asked = pairs(Reviews(service))
    assert (1, 2) not in asked and {(1, 3), (4, 5)} <= set(asked)


def test_the_order_is_the_same_after_a_restart(service: Service, tmp_path: Path) -> None:
    before = pairs(Reviews(service))
    service.records.close()
    assert pairs(Reviews(small_service(tmp_path))) == before


def test_a_person_is_not_asked_again_and_another_only_about_shared_pairs(reviews: Reviews) -> None:
    asked = pairs(reviews)
    for pair in asked[:10]:
        answer(reviews, pair, "same")
    assert pairs(reviews) == asked[10:]
    assert pairs(reviews, "bob") == [*asked[:10:SHARED_EVERY], *asked[10:]]
    task = reviews.next("mall", "bob", 1)
    assert (task.answered, task.answered_by_reviewer) == (10, 0)


def test_two_people_are_both_kept_and_one_corrects_himself(reviews: Reviews) -> None:
    pair = pairs(reviews)[0]
    answer(reviews, pair, "same")
    answer(reviews, pair, "same", "bob")
    assert stored(reviews, disputed=True) == []
    answer(reviews, pair, "different")
    assert stored(reviews) == [("ada", "different", "sample"), ("bob", "same", "sample")]
    assert stored(reviews, disputed=True) == stored(reviews)
    made = reviews.estimate("mall")
    assert (made.disputed, made.reviewed.answers) == (1, 1)
    assert sum(cell.same for cell in made.cells) == 0.5


def test_a_pair_that_nobody_can_tell_is_no_answer(reviews: Reviews) -> None:
    first, second, *_ = pairs(reviews)
    answer(reviews, first, "cannot tell")
    answer(reviews, second, "cannot tell")
    answer(reviews, second, "same", "bob")
    made = reviews.estimate("mall")
    assert (made.cannot_tell, made.reviewed.answers, made.disputed) == (1, 1, 0)


def test_answers_from_a_search_are_kept_and_no_estimate_counts_them(reviews: Reviews) -> None:
    pair = pairs(reviews)[0]
    answer(reviews, pair, "different", source="search")
    assert stored(reviews) == [("ada", "different", "search")]
    assert reviews.estimate("mall").reviewed.answers == 0
    ((review, stratum_pairs, weight),) = reviews.page("mall", 0, 9, disputed=False)
    assert (review.draw, review.stratum, stratum_pairs, weight) == (None, None, None, None)
    assert pair in pairs(reviews)  # the order of a sample does not depend on what somebody chose
    answer(reviews, pair, "same")
    assert stored(reviews) == [("ada", "same", "sample")]


def test_a_drawn_pair_that_is_corrected_on_the_search_page_stays_in_the_sample(reviews: Reviews) -> None:
    pair = pairs(reviews)[0]
    answer(reviews, pair, "same")
    answer(reviews, (pair[1], pair[0]), "different", source="search")
    assert stored(reviews) == [("ada", "different", "sample")]
    assert reviews.estimate("mall").reviewed.answers == 1


def test_a_search_answer_has_the_score_and_probability_of_its_pair(reviews: Reviews) -> None:
    pair = pairs(reviews)[0]
    answer(reviews, pair, "same")
    answer(reviews, pair, "same", "bob", source="search")
    (drawn, *_), (chosen, *_) = reviews.page("mall", 0, 9, disputed=False)
    assert chosen.score == pytest.approx(drawn.score) and chosen.probability == pytest.approx(drawn.probability)


def test_weights_of_answered_pairs_add_up_to_all_candidates_of_their_strata(reviews: Reviews) -> None:
    for pair in pairs(reviews)[:9]:
        answer(reviews, pair, "same")
    rows = reviews.page("mall", 0, 100, disputed=False)
    strata = {review.stratum: count for review, count, _ in rows}
    assert sum(weight or 0 for _, _, weight in rows) == pytest.approx(sum(count or 0 for count in strata.values()))


def test_another_version_draws_again_and_keeps_the_answers(service: Service, reviews: Reviews, tmp_path: Path) -> None:
    pair = pairs(reviews)[0]
    answer(reviews, pair, "same")
    switch_version(service, "2", small_model(tmp_path / "new"))
    task = reviews.next("mall", "ada", 100)
    assert (task.draw.version, task.draw.draw, task.answered) == ("2", 2, 0)
    ((review, stratum_pairs, _),) = reviews.page("mall", 0, 9, disputed=False)
    assert (review.version, review.draw) == ("1", 1) and stratum_pairs
    answer(reviews, pair, "different")  # in the new sample now
    ((review, *_),) = reviews.page("mall", 0, 9, disputed=False)
    assert (review.version, review.draw, review.answer) == ("2", 2, "different")


def test_a_gallery_twice_as_large_draws_again(service: Service, reviews: Reviews) -> None:
    pairs(reviews)
    enrol(service, 11, first=20)
    assert reviews.next("mall", "ada", 1).draw.draw == 1
    enrol(service, 1, first=40)
    task = reviews.next("mall", "ada", 1)
    assert task.draw.draw == 2 and task.candidates > 48
    assert service.reviews.pairs(1) == []  # nobody answered the first sample


@pytest.mark.parametrize("way", ["sighting", "retention"])
def test_a_pair_and_its_answers_end_with_either_sighting(tmp_path: Path, way: str) -> None:
    service = small_service(tmp_path, SETTINGS.model_copy(update={"retention_days": {"mall": 1}}))
    enrol(service, 6)
    reviews = Reviews(service)
    asked = pairs(reviews)
    gone = asked[0][1]
    for pair in asked:
        answer(reviews, pair, "same", "ada-lovelace")
    if way == "sighting":
        service.delete([gone])
    else:
        service.records._connection.execute("UPDATE sightings SET enrolled_s = 0 WHERE id = ?", (gone,))
        assert service.delete_expired() == 1
    left = [(review.first, review.second) for review, _, _ in reviews.page("mall", 0, 100, disputed=False)]
    assert sorted(left) == sorted(pair for pair in asked if gone not in pair)
    assert all(gone not in (pair.first, pair.second) for _, pair in service.reviews.pairs(1))
    service.delete([sighting.id for sighting in service.page("mall", 0, 100)])
    assert b"ada-lovelace" not in (tmp_path / "state" / "galleries.db").read_bytes()


def test_a_file_without_reviews_is_opened_and_keeps_its_sightings(tmp_path: Path) -> None:
    service = small_service(tmp_path)
    enrol(service, 3)
    service.records.close()
    with sqlite3.connect(tmp_path / "state" / "galleries.db") as connection:
        for table in ("reviews", "review_pairs", "review_draws"):
            connection.execute(f"DROP TABLE {table}")
    service = small_service(tmp_path)
    assert service.records.count() == 3 and pairs(Reviews(service))


def test_an_unknown_sighting_or_a_pair_that_was_not_drawn_stores_nothing(reviews: Reviews) -> None:
    asked = pairs(reviews)
    with pytest.raises(NotFound, match="no sample of mall has the pair 1, 4; ask for the next pairs"):
        reviews.answer("mall", [Answered(*asked[0], "same"), Answered(1, 4, "same")], "ada", "sample")
    with pytest.raises(NotFound, match="first and second must be two sightings, got 1 twice"):
        reviews.answer("mall", [Answered(*asked[0], "same"), Answered(1, 1, "same")], "ada", "search")
    with pytest.raises(NotFound, match="mall has no sighting 99"):
        reviews.answer("mall", [Answered(*asked[0], "same"), Answered(1, 99, "same")], "ada", "search")
    assert stored(reviews) == []


def test_an_empty_gallery_has_no_pairs_and_no_figures(tmp_path: Path) -> None:
    reviews = Reviews(small_service(tmp_path))
    assert pairs(reviews) == []
    made = reviews.estimate("mall")
    assert (made.reviewed.precision, made.reviewed.recall, made.reviewed.answers) == (None, None, 0)


def client(service: Service, keys: Path | None = None) -> TestClient:
    app = create_app(service, Keys(keys) if keys else None, 10_000, "127.0.0.1")
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def test_answers_over_http_are_listed_with_digests_and_estimated(service: Service) -> None:
    web = client(service)
    task = web.get(f"{MALL}/reviews/next", params={"limit": 4, "reviewer": "ada"}).json()
    assert task["candidates"] == 48 and task["pairs"][0]["first"].keys() == {"id", "camid", "camera", "time_s", "track"}
    answers = [
        {"first": pair["first"]["id"], "second": pair["second"]["id"], "answer": "same"} for pair in task["pairs"]
    ]
    assert web.post(f"{MALL}/reviews", json={"answers": answers, "reviewer": "ada"}).json() == {"stored": 4}
    made = web.get(f"{MALL}/reviews/estimates").json()
    assert made["answers"] == 4 and sum(stratum["pairs"] for stratum in made["strata"]) == 48
    page = web.get(f"{MALL}/reviews", params={"limit": 3}).json()["answers"]
    rest = web.get(f"{MALL}/reviews", params={"after": page[-1]["id"]}).json()["answers"]
    assert [len(page), len(rest)] == [3, 1] and {row["reviewer"] for row in page + rest} == {"ada"}
    ((digest,),) = service.records.query("SELECT hex(digest) FROM sightings WHERE id = ?", page[0]["first"])
    assert page[0]["first_sha256"] == digest.lower()


def test_with_keys_the_name_is_that_of_the_key_and_no_other_is_accepted(service: Service, tmp_path: Path) -> None:
    headers = {"X-API-Key": add_key(tmp_path / "keys.json", "desk 1", ["review"], ["mall"])}
    web = client(service, tmp_path / "keys.json")
    pair = web.get(f"{MALL}/reviews/next", headers=headers).json()["pairs"][0]
    body: dict[str, Any] = {
        "answers": [{"first": pair["first"]["id"], "second": pair["second"]["id"], "answer": "different"}]
    }
    assert web.post(f"{MALL}/reviews", json=body, headers=headers).status_code == 201
    (row,) = web.get(f"{MALL}/reviews", headers=headers).json()["answers"]
    assert row["reviewer"] == "desk 1"
    refused = web.post(f"{MALL}/reviews", json={**body, "reviewer": "ada"}, headers=headers)
    detail = "reviewer must be left out: key 'desk 1' answers under its own name"
    assert (refused.status_code, refused.json()["detail"]) == (403, detail)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"answers": []}, "body.answers: List should have at least 1 item"),
        ({"answers": [{"first": 1, "second": 2, "answer": "maybe"}]}, "body.answers.0.answer: Input should be 'same'"),
        ({"answers": [{"first": 1, "second": 2, "answer": "same"}] * 101}, "at most 100 items"),
        ({"answers": [{"first": 1, "second": 2, "answer": "same"}], "reviewer": "a b"}, "body.reviewer: "),
    ],
)
def test_a_refused_answer_is_named(service: Service, body: dict[str, Any], message: str) -> None:
    refused = client(service).post(f"{MALL}/reviews", json=body)
    assert refused.status_code == 422 and message in refused.json()["detail"]


def test_a_clock_that_jumps_dates_no_answer(
    service: Service, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + 30 * 86_400)
    answer(reviews, (1, 2), "same", source="search")
    ((review, _, _),) = reviews.page("mall", 0, 100, disputed=False)
    assert review.answered_s - began < 3600
