"""However a request is changed, the service answers it or refuses it; it never fails and repeats no large input."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from qaconv.serving.app import create_app
from tests.odd_values import mutated, odd_texts
from tests.small_service import crop, small_service, text

pytestmark = pytest.mark.fuzz
MALL = "/v1/targets/mall"
SIGHTING = {"image": text(crop(0)), "camid": 0, "time_s": 1.5, "person": "ada"}
QUERY = {"image": text(crop(1)), "camid": 0, "time_s": 30.0}
BODIES: dict[str, Any] = {
    f"{MALL}/sightings": {"sightings": [SIGHTING, {**SIGHTING, "camid": 1}]},
    f"{MALL}/search": {
        "queries": [QUERY, {"sighting": 1}, {"images": [text(crop(2)), text(crop(3))], "camid": 1}],
        "top_k": 3,
        "threshold": 0.5,
        "camids": [0, 1],
        "from_s": 0,
        "to_s": 60,
    },
    f"{MALL}/explain": {"query": {"sighting": 1}, "sighting": 2, "limit": 3},
    f"{MALL}/reviews": {
        "answers": [{"first": 1, "second": 2, "answer": "same"}, {"first": 2, "second": 1, "answer": "cannot tell"}],
        "source": "search",
        "reviewer": "ada",
    },
}
REQUESTS = st.sampled_from(sorted(BODIES)).flatmap(lambda path: st.tuples(st.just(path), mutated(BODIES[path])))
PATHS = ["/v1/targets/{}", "/v1/targets/{}/sightings", "/v1/targets/mall/sightings/{}", "/v1/targets/mall/people/{}"]
QUERIES = [
    f"{MALL}/reviews?after={{}}",
    f"{MALL}/reviews?limit={{}}&disputed={{}}",
    f"{MALL}/reviews/next?reviewer={{}}",
]


def json_client(app: FastAPI) -> TestClient:
    """Return a client whose bodies count as JSON, without which none is parsed."""
    headers = {"Content-Type": "application/json"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """Return a client of a service that holds two sightings."""
    service = small_service(tmp_path_factory.mktemp("service"))
    client = json_client(create_app(service, None, 10**9, "127.0.0.1"))
    for path, body in BODIES.items():
        assert client.post(path, content=json.dumps(body)).is_success
    return client


@given(request=REQUESTS)
def test_a_changed_body_is_answered_or_refused(web: TestClient, request: tuple[str, Any]) -> None:
    path, body = request
    answer = web.post(path, content=json.dumps(body).encode("utf-8", "replace"))
    assert answer.status_code < 500 and (answer.status_code < 400 or len(answer.content) < 5_000)


@given(path=st.sampled_from(PATHS), word=odd_texts, method=st.sampled_from(["GET", "DELETE", "POST", "PUT"]))
def test_an_odd_path_is_answered_or_refused(web: TestClient, path: str, word: str, method: str) -> None:
    answer = web.request(method, path.format(json.dumps(word)[1:-1].replace("/", "%2F")))
    assert answer.status_code < 500 and (answer.status_code < 400 or len(answer.content) < 5_000)


@given(path=st.sampled_from(QUERIES), word=odd_texts)
def test_an_odd_query_is_answered_or_refused(web: TestClient, path: str, word: str) -> None:
    answer = web.get(path.replace("{}", quote(word.encode("utf-8", "replace"))))
    assert answer.status_code < 500 and (answer.status_code < 400 or len(answer.content) < 5_000)


@given(body=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_bytes_are_refused(web: TestClient, body: bytes) -> None:
    for path in BODIES:
        assert 400 <= web.post(path, content=body).status_code < 500
