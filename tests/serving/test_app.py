import json
import logging
import struct
import zlib
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from qaconv.serving.app import create_app
from qaconv.serving.auth import Keys, add_key
from qaconv.serving.middleware import LARGEST_BODY
from qaconv.serving.service import Service
from tests.small_service import crop, small_service, text

MALL = "/v1/targets/mall"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def client(service: Service, keys: Path | None = None, requests_per_minute: int = 10_000) -> TestClient:
    app = create_app(service, Keys(keys) if keys else None, requests_per_minute, "127.0.0.1")
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def sighting(seed: int, **more: object) -> dict[str, object]:
    return {"image": text(crop(seed)), "camid": 0, "time_s": 1.5, **more}


def test_what_is_enrolled_is_listed_found_shown_explained_and_deleted(service: Service) -> None:
    web = client(service)
    enrolled = web.post(f"{MALL}/sightings", json={"sightings": [sighting(0, person="ada"), sighting(1)]})
    assert enrolled.status_code == 201
    first, second = enrolled.json()["ids"]
    assert [one["id"] for one in web.get(f"{MALL}/sightings").json()["sightings"]] == [first, second]
    answer = web.post(f"{MALL}/search", json={"queries": [{"image": text(crop(1))}, {"sighting": second}]}).json()
    assert [len(found) for found in answer["results"]] == [2, 1] and answer["version"] == "1"
    image = web.get(f"{MALL}/sightings/{first}/image")
    assert image.content == crop(0) and image.headers["content-type"] == "image/png"
    assert image.headers["cache-control"] == "no-store"
    asked = {"query": {"sighting": second}, "sighting": first, "limit": 3}
    assert len(web.post(f"{MALL}/explain", json=asked).json()["correspondences"]) == 3
    assert web.delete(f"{MALL}/people/ada").json() == {"deleted": 1}
    assert web.get(f"{MALL}/sightings/{first}").status_code == 404
    assert web.delete(f"{MALL}/sightings/{second}").json() == {"deleted": 1}


@pytest.mark.parametrize("side", [3_000, 12_000, 30_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(service: Service, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"image": text(bomb)}]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("image: ") and "4,000,000" in answer.json()["detail"]


@pytest.mark.parametrize("image", [b"", b"no image", crop(0)[:60], b"GIF89a" + bytes(50)])
def test_what_is_no_image_is_refused_in_a_sentence_that_does_not_repeat_it(service: Service, image: bytes) -> None:
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"image": text(image)}]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"image: {len(image)} bytes are not a whole image; must be a JPEG or PNG")


def test_a_value_that_is_refused_is_named_and_not_repeated(service: Service) -> None:
    answer = client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0, camid="c" * 50)]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("body.sightings.0.camid: ") and "ccc" not in answer.text


def test_a_body_that_is_too_large_is_refused_whatever_its_head_says(service: Service) -> None:
    web, body = client(service), b" " * (LARGEST_BODY + 1)
    assert web.post(f"{MALL}/search", content=body).status_code == 413
    assert (
        web.post(f"{MALL}/search", content=(body[at : at + 2**20] for at in range(0, len(body), 2**20))).status_code
        == 413
    )


def test_a_fault_tells_the_caller_nothing_of_the_code(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "search", lambda *_: 1 / 0)
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"sighting": 1}]})
    assert (answer.status_code, answer.json()) == (500, {"detail": "the service has failed; its log says more"})
    assert "ZeroDivisionError" in caplog.text


def test_a_key_opens_what_it_is_for(service: Service, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    searcher = {"X-API-Key": add_key(keys, "desk", ["search"], ["mall"])}
    keeper = {"X-API-Key": add_key(keys, "keeper", ["enrol", "delete"], None)}
    web = client(service, keys)
    body = {"sightings": [sighting(0)]}
    assert web.get("/v1/targets").status_code == 401
    assert web.get("/v1/targets", headers={"X-API-Key": "guess"}).status_code == 401
    assert web.post(f"{MALL}/sightings", json=body, headers=searcher).status_code == 403
    assert web.post(f"{MALL}/sightings", json=body, headers=keeper).status_code == 201
    assert web.get(f"{MALL}/sightings", headers=searcher).status_code == 200
    assert web.get("/v1/targets/station/sightings", headers=searcher).status_code == 403
    assert [one["name"] for one in web.get("/v1/targets", headers=searcher).json()["targets"]] == ["mall"]
    assert web.get("/metrics", headers=searcher).status_code == 403
    assert web.get("/healthz").status_code == web.get("/").status_code == 200
    assert searcher["X-API-Key"] not in keys.read_text()


def test_more_requests_than_a_minute_allows_are_told_when_to_come_back(service: Service) -> None:
    web = client(service, requests_per_minute=3)
    answers = [web.get(f"{MALL}/sightings") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_without_keys_another_name_of_this_machine_is_not_answered(service: Service) -> None:
    web = client(service)
    assert web.get("/v1/targets", headers={"Host": "evil.example"}).status_code == 400


def test_the_log_names_the_key_and_the_outcome_and_holds_no_image(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qaconv.requests")
    client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0)]})
    (record,) = [record for record in caplog.records if record.name == "qaconv.requests"]
    assert record.said.keys() == {"request", "key", "method", "path", "status", "ms"}
    assert record.said["status"] == 201 and text(crop(0)) not in json.dumps(record.said)


def test_every_answer_that_the_document_promises_has_a_schema(service: Service) -> None:
    document = client(service).get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], f"{method} {path}"
            assert all(answer.get("content") for answer in operation["responses"].values()), f"{method} {path}"


@pytest.mark.parametrize(
    ("value", "status"), [({"camid": 1.0}, 201), ({"camid": True}, 422), ({"camid": "1"}, 422), ({"time_s": True}, 422)]
)
def test_a_number_is_taken_as_json_schema_means_it(service: Service, value: dict[str, object], status: int) -> None:
    answer = client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0, **value)]})
    assert answer.status_code == status
