import json
import logging
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client import REGISTRY

from qaconv.runtime.decode import ALLOWED_FORMATS, FORMATS
from qaconv.serving.app import create_app
from qaconv.serving.auth import Keys, add_key
from qaconv.serving.bounds import LARGEST_BODY
from qaconv.serving.service import Service
from qaconv.serving.telemetry import collect_metrics
from tests.runtime.image_files import png
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


def test_enrolled_sightings_are_listed_found_shown_explained_and_deleted(service: Service) -> None:
    web = client(service)
    enrolled = web.post(f"{MALL}/sightings", json={"sightings": [sighting(0, person="ada"), sighting(1)]})
    assert enrolled.status_code == 201
    first, second = enrolled.json()["ids"]
    assert [listed["id"] for listed in web.get(f"{MALL}/sightings").json()["sightings"]] == [first, second]
    answer = web.post(f"{MALL}/search", json={"queries": [{"image": text(crop(1))}, {"sighting": second}]}).json()
    assert [len(matches) for matches in answer["results"]] == [2, 1] and answer["version"] == "1"
    image = web.get(f"{MALL}/sightings/{first}/image")
    assert image.content == crop(0) and image.headers["content-type"] == "image/png"
    assert image.headers["cache-control"] == "no-store"
    request = {"query": {"sighting": second}, "sighting": first, "limit": 3}
    assert len(web.post(f"{MALL}/explain", json=request).json()["correspondences"]) == 3
    assert web.delete(f"{MALL}/people/ada").json() == {"deleted": 1}
    assert web.get(f"{MALL}/sightings/{first}").status_code == 404
    assert web.delete(f"{MALL}/sightings/{second}").json() == {"deleted": 1}


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_enrolled_and_shown_by_its_media_type(service: Service, kind: str) -> None:
    file = BytesIO()
    Image.new("RGB", (4, 8), "red").save(file, kind)
    web = client(service)
    enrolled = web.post(f"{MALL}/sightings", json={"sightings": [sighting(0, image=text(file.getvalue()))]})
    assert enrolled.status_code == 201
    image = web.get(f"{MALL}/sightings/{enrolled.json()['ids'][0]}/image")
    assert image.content == file.getvalue() and image.headers["content-type"] == FORMATS[kind]


@pytest.mark.parametrize("side", [3_000, 12_000, 30_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(service: Service, side: int) -> None:
    bomb = png((side, side), 8, 2, [bytes(1000)])
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"image": text(bomb)}]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("image: ") and "4,000,000" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", f"image: is not an image, allowed: {ALLOWED_FORMATS}"),
        (b"no image", f"image: is not an image, allowed: {ALLOWED_FORMATS}"),
        (crop(0)[:60], "image: cannot be decoded as PNG: ends early"),
        (b"GIF89a" + bytes(50), f"image: is a GIF file, allowed: {ALLOWED_FORMATS}"),
    ],
)
def test_a_file_that_cannot_be_decoded_is_refused_with_the_reason(service: Service, image: bytes, message: str) -> None:
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"image": text(image)}]})
    assert answer.status_code == 422
    assert answer.json()["detail"] == message


def test_a_refused_value_is_named_and_not_repeated(service: Service) -> None:
    answer = client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0, camid="c" * 101)]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("body.sightings.0.camid: ") and "ccc" not in answer.text


def test_a_body_that_is_too_large_is_refused_with_and_without_its_length(service: Service) -> None:
    web, body = client(service), b" " * (LARGEST_BODY + 1)
    assert web.post(f"{MALL}/search", content=body).status_code == 413
    chunks = (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    assert web.post(f"{MALL}/search", content=chunks).status_code == 413


def test_a_fault_shows_the_caller_nothing_of_the_code(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "search", lambda *_: 1 / 0)
    answer = client(service).post(f"{MALL}/search", json={"queries": [{"sighting": 1}]})
    assert (answer.status_code, answer.json()) == (500, {"detail": "the service has failed; its log says more"})
    assert "ZeroDivisionError" in caplog.text


def test_a_key_allows_its_scopes_and_targets_alone(service: Service, tmp_path: Path) -> None:
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
    assert [target["name"] for target in web.get("/v1/targets", headers=searcher).json()["targets"]] == ["mall"]
    assert web.get("/metrics", headers=searcher).status_code == 403
    assert web.get("/healthz").status_code == web.get("/").status_code == 200
    assert searcher["X-API-Key"] not in keys.read_text()


def test_more_requests_than_a_minute_allows_get_a_time_to_retry(service: Service) -> None:
    web = client(service, requests_per_minute=3)
    answers = [web.get(f"{MALL}/sightings") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_without_keys_a_request_to_another_host_name_is_refused(service: Service) -> None:
    web = client(service)
    assert web.get("/v1/targets", headers={"Host": "evil.example"}).status_code == 400


def test_the_log_names_key_and_status_and_has_no_image_and_no_person(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qaconv.requests")
    client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0)]})
    client(service).delete(f"{MALL}/people/ada")
    record, deletion = (record for record in caplog.records if record.name == "qaconv.requests")
    fields = vars(record)["fields"]
    assert fields.keys() == {"request", "key", "method", "route", "status", "ms"}
    assert fields["status"] == 201 and text(crop(0)) not in json.dumps(fields)
    assert "ada" not in deletion.getMessage() + json.dumps(vars(deletion)["fields"])


def test_every_answer_in_the_openapi_document_has_a_schema(service: Service) -> None:
    document = client(service).get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], f"{method} {path}"
            assert all(answer.get("content") for answer in operation["responses"].values()), f"{method} {path}"


@pytest.mark.parametrize(
    ("value", "status"), [({"camid": 1.0}, 201), ({"camid": True}, 422), ({"camid": "1"}, 422), ({"time_s": True}, 422)]
)
def test_numbers_follow_the_rules_of_json_schema(service: Service, value: dict[str, object], status: int) -> None:
    answer = client(service).post(f"{MALL}/sightings", json={"sightings": [sighting(0, **value)]})
    assert answer.status_code == status


def test_a_key_of_one_target_sees_no_metric_of_another(service: Service, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    everyone = {"X-API-Key": add_key(keys, "all", ["metrics"], None)}
    mall = {"X-API-Key": add_key(keys, "mall", ["metrics"], ["mall"])}
    web = client(service, keys)
    collect_metrics(service)
    try:
        assert 'qaconv_sightings{target="station"}' in web.get("/metrics", headers=everyone).text
        limited = web.get("/metrics", headers=mall).text
    finally:
        REGISTRY.unregister(REGISTRY._names_to_collectors["qaconv_sightings"])
    assert 'qaconv_sightings{target="mall"}' in limited and "qaconv_capacity" in limited and "station" not in limited


def test_on_a_full_disk_enrolment_gets_507_the_probe_503_and_searches_and_deletions_go_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = client(service)
    (first,) = web.post(f"{MALL}/sightings", json={"sightings": [sighting(0)]}).json()["ids"]
    assert web.get("/readyz").status_code == 200
    monkeypatch.setattr("qaconv.serving.state_folder.Reserve.free_bytes", lambda _: 0)
    statuses = set()
    for start in range(1, 1000, 200):
        body = {"sightings": [sighting(seed) for seed in range(start, start + 200)]}
        answer = web.post(f"{MALL}/sightings", json=body)
        statuses.add(answer.status_code)
    assert statuses == {201, 507} and answer.status_code == 507
    assert answer.json() == {"detail": "the disk is full; nothing was stored or deleted, searches go on"}
    assert web.get("/readyz").status_code == 503
    assert "new sightings are refused" in web.get("/readyz").json()["detail"]
    assert web.post(f"{MALL}/search", json={"queries": [{"sighting": first}]}).status_code == 200
    assert web.delete(f"{MALL}/sightings/{first}").json() == {"deleted": 1}
