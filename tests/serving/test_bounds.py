"""What a request may take is bounded: time, values, pixels, work at once, and what it leaves in answers and metrics."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from prometheus_client import REGISTRY

from qaconv.serving import bounds, encoding
from qaconv.serving.app import create_app
from qaconv.serving.auth import SCOPES, Keys, add_key
from qaconv.serving.bounds import MOST_VALUES, bound_answer
from qaconv.serving.service import Service
from tests.small_service import crop, small_service, text

MALL = "/v1/targets/mall"
SEARCH = {"queries": [{"sighting": 1}]}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


def open_client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def send(service: Service, method: str, path: str, **request: Any) -> httpx.Response:
    async def one() -> httpx.Response:
        async with open_client(create_app(service, None, 10_000, "127.0.0.1")) as client:
            return await client.request(method, path, **request)

    return asyncio.run(one())


def large_image() -> str:
    file = BytesIO()
    Image.new("1", (2000, 2000)).save(file, "PNG")
    return text(file.getvalue())


def test_many_unknown_fields_get_a_short_answer_without_their_names(service: Service) -> None:
    answer = send(service, "POST", f"{MALL}/sightings", json={f"secret{number}": 0 for number in range(9_000)})
    assert answer.status_code == 422 and len(answer.content) < 300 and "secret" not in answer.text
    assert answer.json()["detail"].startswith("body.sightings: Field required; body: has an unknown field; ")
    assert answer.json()["detail"].endswith("; 8,998 more")


def test_a_long_name_in_the_path_is_not_repeated_in_full(service: Service) -> None:
    answer = send(service, "GET", f"/v1/targets/{'t' * 9_000}/sightings")
    assert answer.status_code == 404 and len(answer.content) < 1_100


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"sightings": [0] * (MOST_VALUES + 1)}).encode()
    monkeypatch.setattr(json, "loads", None)
    answer = send(service, "POST", f"{MALL}/sightings", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and b"10,000 values" in answer.content


@pytest.mark.parametrize("path", ["search", "sightings"])
def test_images_of_too_many_pixels_together_are_refused_before_one_is_decoded(
    service: Service, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    image = large_image()
    queries = [{"image": image, "camid": 0} for _ in range(9)]
    monkeypatch.setattr(encoding, "read_crop", None)
    answer = send(service, "POST", f"{MALL}/{path}", json={"queries" if path == "search" else path: queries})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the images of a request must have at most 32,000,000 pixels together"


def test_methods_and_routes_that_do_not_exist_share_one_label(service: Service) -> None:
    for number in range(3):
        send(service, f"BREW{number}", "/v1/targets")
        send(service, "GET", f"/v{number}")
    samples = next(metric for metric in REGISTRY.collect() if metric.name == "qaconv_requests").samples
    labels = {(sample.labels["method"], sample.labels["route"]) for sample in samples}
    assert ("other", "/v1/targets") in labels and ("GET", "other") in labels
    assert not any("BREW" in method or route in {"/v0", "/v1", "/v2"} for method, route in labels)


def test_probes_and_metrics_are_answered_while_no_more_work_is_taken(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_WORK", 2)
    monkeypatch.setattr(bounds, "MOST_WORK_OF_KEY", 1)
    file = tmp_path / "keys.json"
    first, second, third = ({"X-API-Key": add_key(file, name, SCOPES, None)} for name in ("a", "b", "c"))
    ended = threading.Event()
    monkeypatch.setattr(service, "search", lambda *_: ended.wait(10) and 1 / 0)

    async def attempt(client: httpx.AsyncClient) -> None:
        working = [asyncio.create_task(client.post(f"{MALL}/search", json=SEARCH, headers=first))]
        await asyncio.sleep(0.05)
        refused = await client.get("/v1/targets", headers=first)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert (await client.get("/v1/targets", headers=second)).status_code == 200
        working.append(asyncio.create_task(client.post(f"{MALL}/search", json=SEARCH, headers=second)))
        await asyncio.sleep(0.05)
        refused = await client.get("/v1/targets", headers=third)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path, headers=third)).status_code == 200
        ended.set()
        assert [answer.status_code for answer in await asyncio.gather(*working)] == [500, 500]
        assert (await client.get("/v1/targets", headers=third)).status_code == 200

    async def run() -> None:
        transport = httpx.ASGITransport(
            create_app(service, Keys(file), 10_000, "127.0.0.1"), raise_app_exceptions=False
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await attempt(client)

    asyncio.run(run())


def test_a_body_that_does_not_arrive_in_time_is_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "BODY_S", 0.05)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(1000):
            await asyncio.sleep(0.01)
            yield b" "

    answer = send(service, "POST", f"{MALL}/search", content=drip())
    assert (answer.status_code, answer.json()["detail"]) == (408, "the body must arrive within 0.05 s")


def test_an_answer_that_is_not_taken_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_S", 0.01)

    async def run() -> None:
        await bound_answer(lambda _: asyncio.sleep(10))({"type": "http.response.start"})

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_http_2_is_refused_as_its_streams_have_no_limits_of_time(service: Service) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def take(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "http_version": "2", "method": "GET", "path": "/", "headers": []}
    app = create_app(service, None, 10_000, "127.0.0.1")
    asyncio.run(app(scope, receive, take))
    assert sent[0]["status"] == 505


def test_images_below_the_limit_of_pixels_are_searched(service: Service) -> None:
    queries = [{"image": text(crop(number))} for number in range(9)]
    assert send(service, "POST", f"{MALL}/search", json={"queries": queries}).status_code == 200
