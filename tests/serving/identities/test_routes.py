"""The routes of identities: answers, refusals, and requests that were changed at random."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from qaconv.serving.app import create_app
from qaconv.serving.service import Service
from tests.odd_values import mutated, odd_texts
from tests.serving.test_request_fuzz import json_client
from tests.small_identities import colour_service, enrol_people, update

IDENTITIES = "/v1/targets/mall/identities"
JOURNEYS = "/v1/targets/mall/journeys"
BODIES: dict[str, Any] = {f"{IDENTITIES}/1/merge": {"other": 2}, f"{IDENTITIES}/1/split": {"sightings": [1, 4]}}
REQUESTS = st.sampled_from(sorted(BODIES)).flatmap(lambda path: st.tuples(st.just(path), mutated(BODIES[path])))
QUERY = {"camids": "1", "from_s": "0", "to_s": "300.5", "cameras": "2", "order": "certainty", "skip": "1", "limit": "2"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = colour_service(tmp_path_factory.mktemp("service"))
    enrol_people(service, 9)
    update(service)
    return service


@pytest.fixture(scope="module")
def web(service: Service) -> TestClient:
    return json_client(create_app(service, None, 10**9, "127.0.0.1"))


def test_a_list_states_the_update_and_each_identity(web: TestClient) -> None:
    answer = web.get(IDENTITIES, params={"limit": 1}).json()
    assert answer["total"] == 3
    assert {name: answer["update"][name] for name in ("state", "wanted", "fault")} == {
        "state": "idle",
        "wanted": True,
        "fault": None,
    }
    (identity,) = answer["identities"]
    assert identity == {
        "identity": 1, "sightings": 3, "cameras": 3, "probability": identity["probability"],
        "from_s": 0.0, "to_s": 600.0, "images": [1, 4, 7],
    }  # fmt: skip
    assert 0.9 < identity["probability"] <= 1


def test_a_journey_has_visits_with_their_sightings(web: TestClient) -> None:
    answer = web.get(f"{IDENTITIES}/3").json()
    assert (answer["identity"], answer["sightings"], answer["changes"]) == (3, 3, [])
    visits = sorted(answer["visits"], key=lambda visit: visit["camid"])  # three people do not show how clocks differ
    assert [(visit["camid"], visit["from_s"], visit["image"]) for visit in visits] == [
        (0, 200.0, 3),
        (1, 500.0, 6),
        (2, 800.0, 9),
    ]
    assert [[member["id"] for member in visit["members"]] for visit in visits] == [[3], [6], [9]]


def test_filters_of_an_address_are_read_as_those_of_a_body(web: TestClient) -> None:
    page = web.get(JOURNEYS, params={"camids": ["1", "2"], "from_s": "400", "to_s": "700.0", "limit": 2}).json()
    assert (page["total"], [visit["image"] for visit in page["visits"]]) == (4, [5, 6])
    page = web.get(JOURNEYS, params={"camids": ["1", "2"], "from_s": "400", "to_s": "7e2", "skip": 2}).json()
    assert [visit["image"] for visit in page["visits"]] == [7, 8]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"camids": "7"}, 404, "camid: mall has no camera [7]; it has [0, 1, 2]"),
        ({"camids": "roof"}, 422, "camid: mall has cameras by number, got a name; it has [0, 1, 2]"),
        ({"from_s": "soon"}, 422, "query.from_s: Value error, must be a number of seconds, or "),
        (
            {"to_s": "2026-01-05T06:00:00Z"},
            422,
            "time_s: must be seconds on the clocks of the cameras of mall, got a date",
        ),
        ({"order": "age"}, 422, "query.order: Input should be 'number' or 'certainty'"),
        ({"limit": "501"}, 422, "query.limit: Input should be less than or equal to 500"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_name(
    web: TestClient, query: dict[str, str], status: int, message: str
) -> None:
    answer = web.get(IDENTITIES, params=query)
    assert answer.status_code == status and answer.json()["detail"].startswith(message)


def test_the_last_merge_or_split_is_also_the_answer_among_the_reviews(web: TestClient, service: Service) -> None:
    def answers() -> list[tuple[str, str, str]]:
        return [(review.source, review.answer, review.reviewer) for review in service.reviews.page("mall", 0, 9)]

    assert web.post(f"{IDENTITIES}/1/merge", json={"other": 2}).json() == {"identity": 1}
    assert answers() == [("identities", "same", "anyone")]
    assert web.post(f"{IDENTITIES}/1/split", json={"sightings": [5, 8]}).json() == {"identity": 4}
    assert web.post(f"{IDENTITIES}/1/split", json={"sightings": [2]}).json() == {"identity": 5}
    assert {answer for _, answer, _ in answers()} == {"different"}
    assert web.post(f"{IDENTITIES}/4/merge", json={"other": 5}).json() == {"identity": 4}
    assert {answer for _, answer, _ in answers()} == {"different", "same"}


@given(request=REQUESTS)
def test_a_changed_body_is_answered_or_refused(web: TestClient, request: tuple[str, Any]) -> None:
    path, body = request
    answer = web.post(path, content=json.dumps(body).encode("utf-8", "replace"))
    assert answer.status_code < 500 and (answer.status_code < 400 or len(answer.content) < 5_000)


@given(
    path=st.sampled_from([IDENTITIES, JOURNEYS]),
    query=st.dictionaries(st.sampled_from(sorted(QUERY)), odd_texts | st.integers().map(str) | st.floats().map(str)),
)
def test_an_odd_query_is_answered_or_refused(web: TestClient, path: str, query: dict[str, str]) -> None:
    answer = web.get(path, params={name: value.encode("utf-8", "replace") for name, value in (QUERY | query).items()})
    assert answer.status_code < 500 and (answer.status_code < 400 or len(answer.content) < 5_000)
