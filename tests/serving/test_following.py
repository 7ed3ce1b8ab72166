"""What a follower answers, what it passes on to its leader, and what the leader hands out to whom."""

import itertools
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from qaconv.serving.app import create_app
from qaconv.serving.auth import HEADER, Keys, add_key
from qaconv.serving.replication.client import Unreachable
from qaconv.serving.replication.link import OLDEST_S
from qaconv.serving.replication.passing import COPIED, LOCAL, is_local
from tests.serving.leader_and_copy import Copy, Machine
from tests.small_service import crop, enrol, text

MALL = "/v1/targets/mall"


def test_a_follower_that_has_not_heard_of_its_leader_for_a_minute_answers_no_more(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = serve(copy)
    assert web.get("/readyz").status_code == 503 and "has not been complete yet" in web.get("/readyz").text
    enrol(leader.service, 1)
    copy.follower.catch_up()
    assert web.get("/readyz").status_code == web.get(f"{MALL}/sightings").status_code == 200
    leader.is_cut = True
    now_s = time.monotonic()
    monkeypatch.setattr("qaconv.serving.replication.link.time.monotonic", lambda: now_s + OLDEST_S - 1)
    assert web.get(f"{MALL}/sightings").status_code == 200
    monkeypatch.setattr("qaconv.serving.replication.link.time.monotonic", lambda: now_s + OLDEST_S + 2)
    for path in ("/readyz", f"{MALL}/sightings", f"{MALL}/sightings/1/image", "/v1/targets"):
        answer = web.get(path)
        assert answer.status_code == 503 and "it may hold what was deleted" in answer.text
    assert web.get("/healthz").status_code == 200


def test_all_routes_but_those_that_only_read_the_copy_are_passed_on(copy: Copy) -> None:
    app = create_app(copy.service, None, 1, "127.0.0.1", copy.follower)
    routes = {(method, vars(route)["path"]) for route in app.routes for method in getattr(route, "methods", None) or ()}
    assert routes >= LOCAL and routes >= COPIED and not LOCAL & COPIED
    for method, path in sorted(routes):
        scope = {
            "type": "http",
            "app": app,
            "method": method,
            "path": path.format(target="a", sighting="1", identity="1", person="p"),
            "headers": [],
        }
        assert is_local(scope) is ((method, path) in LOCAL or not path.startswith("/v1/"))


def test_a_request_is_passed_on_with_the_clients_key_alone_and_answered_when_the_copy_has_the_change(
    tmp_path: Path, leader: Machine, copy: Copy
) -> None:
    copy.follower.catch_up()
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk", ["enrol", "delete", "search"], None)
    guarded = create_app(leader.service, Keys(keys), 10_000, "127.0.0.1")
    passed_headers.clear()
    web = serve(copy, guarded, keys)
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    answer = web.post(f"{MALL}/sightings", json=body, headers={HEADER: key})
    assert answer.status_code == 201 and copy.records.ids("mall") == answer.json()["ids"] == [1]
    assert web.post(f"{MALL}/sightings", json=body).status_code == 401
    assert web.post(f"{MALL}/identities", headers={HEADER: key}).status_code == 403
    refused = web.post(f"{MALL}/sightings", json={"sightings": []}, headers={HEADER: key})
    assert refused.status_code == 422 and "sightings" in refused.json()["detail"]
    large = web.post(f"{MALL}/sightings", content=b"," * 20_000, headers={HEADER: key})
    assert large.status_code == 413 and "values" in large.json()["detail"]
    assert web.delete(f"{MALL}/sightings/1", headers={HEADER: key}).json() == {"deleted": 1}
    assert copy.records.ids("mall") == [] == leader.records.ids("mall")
    assert [headers[HEADER.lower()] for headers in passed_headers] == [key] * len(passed_headers)


def test_without_its_leader_a_follower_changes_nothing_and_says_so(leader: Machine, copy: Copy) -> None:
    copy.follower.catch_up()
    web = serve(copy)
    leader.is_cut = True
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    for answer in (web.post(f"{MALL}/sightings", json=body), web.delete(f"{MALL}/people/ada")):
        assert answer.status_code == 503 and "nothing was changed" in answer.text
    assert copy.records.count() == leader.records.count() == 0


def test_a_change_that_the_copy_does_not_show_yet_is_not_confirmed(
    leader: Machine, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.follower.catch_up()
    web = serve(copy)
    monkeypatch.setattr(copy.follower._client, "changes", Mock(side_effect=Unreachable("cut off")))
    body = {"sightings": [{"image": text(crop(0)), "camid": 0}]}
    answer = web.post(f"{MALL}/sightings", json=body)
    assert answer.status_code == 503 and "the leader has done what was asked" in answer.text
    monkeypatch.undo()
    assert web.post(f"{MALL}/sightings", json=body).json() == {"ids": [1], "known": 1}


def test_a_minutes_requests_of_a_key_are_counted_over_machines_and_alone_while_cut_off(
    leader: Machine, copy: Copy
) -> None:
    copy.follower.catch_up()
    apps = create_app(leader.service, None, 9, "127.0.0.1"), leader
    on_leader = TestClient(apps[0], base_url="http://127.0.0.1")
    web = serve(copy, apps[0], per_minute=9)
    machines = itertools.cycle((on_leader, web))
    statuses = [next(machines).get("/v1/targets").status_code for _ in range(20)]
    assert 9 <= statuses.count(200) <= 10 and statuses.count(429) >= 10  # a minute may end meanwhile
    leader.is_cut = True
    statuses = [web.get("/v1/targets").status_code for _ in range(20)]
    assert 9 <= statuses.count(200) <= 10


def test_a_machine_counts_alone_where_the_leader_sends_no_count(copy: Copy) -> None:
    copy.follower.catch_up()
    statuses = [serve(copy, PlainTextResponse("ok"), per_minute=2).get("/v1/targets").status_code for _ in range(3)]
    assert statuses[:2] == [200, 200]


def test_a_key_of_some_targets_and_a_follower_are_refused_as_what_is_followed(
    tmp_path: Path, leader: Machine, copy: Copy
) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "part", ["replicate"], ["mall"])
    web = TestClient(create_app(leader.service, Keys(keys), 100, "127.0.0.1"), base_url="http://127.0.0.1")
    assert web.get("/replication/changes", headers={HEADER: key}).status_code == 403
    copy.follower.catch_up()
    web = TestClient(create_app(copy.service, None, 100, "127.0.0.1"), base_url="http://127.0.0.1")
    answer = web.get("/replication/changes")
    assert answer.status_code == 421 and "follow its leader" in answer.text


def test_a_file_outside_the_version_that_answers_is_not_handed_out(leader: Machine) -> None:
    def ask(folder: str, path: str) -> int:
        return leader.web.get(f"/replication/file?folder={folder}&path={path}&offset=0").status_code

    assert ask("1-one", "encoder.onnx") == 200
    assert {ask("1-one", "../in_charge.json"), ask("..", "galleries.db"), ask("1-one", "/etc/passwd")} == {404}


passed_headers: list[dict[str, str]] = []


def serve(copy: Copy, leading: Any = None, keys: Path | None = None, per_minute: int = 10_000) -> TestClient:
    """Return a client of the follower's application, which passes requests on to the leader's."""
    leading = leading or create_app(copy.leader.service, None, 10_000, "127.0.0.1")

    class ToLeader(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if copy.leader.is_cut:
                raise httpx.ConnectTimeout("cut off")
            passed_headers.append(dict(request.headers))
            return await super().handle_async_request(request)

    original = httpx.AsyncClient
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "qaconv.serving.app.httpx.AsyncClient",
            lambda **options: original(base_url="http://127.0.0.1", transport=ToLeader(leading)),
        )
        app = create_app(copy.service, Keys(keys) if keys else None, per_minute, "127.0.0.1", copy.follower)
    return TestClient(app, base_url="http://127.0.0.1")
