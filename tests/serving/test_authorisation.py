"""Every route of the application with every scope. Routes are read from the application, so new ones are tested too."""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from qaconv.serving import middleware
from qaconv.serving.app import create_app
from qaconv.serving.auth import HEADER, SCOPES, Keys, add_key
from tests.small_service import small_service

OPEN = {
    "GET /",
    "GET /identities",
    "GET /review",
    "GET /static",
    "GET /openapi.json",
    "HEAD /openapi.json",
    "GET /healthz",
    "GET /readyz",
}
PAGE = Path(__file__).parents[2] / "docs/serving.md"
HOST = "127.0.0.1"
AppAndKeys = tuple[FastAPI, dict[str, str]]


def routes(app: FastAPI) -> list[str]:
    """List METHOD /path of each route; a folder of files counts as one."""
    return [
        f"{method} {vars(route)['path']}"
        for route in app.routes
        for method in sorted(getattr(route, "methods", None) or ["GET"])
    ]


ROUTES = routes(create_app(Mock(**{"active.version": "1"}), None, 1, HOST))
GUARDED = [route for route in ROUTES if route not in OPEN]


def documented_scopes() -> dict[str, str]:
    """Read the scope of each route from the table of docs/serving.md."""
    rows = re.findall(r"^\| (`[A-Z]+ .*?`) \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        route.replace("…", "/v1/targets/{target}"): scope
        for cell, scope in rows
        for route in re.findall(r"`(.+?)`", cell)
    }


@pytest.fixture(scope="module")
def app_and_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppAndKeys]:
    """An application with keys, and a key of each scope, of none, and of all scopes in one other target."""
    folder = tmp_path_factory.mktemp("service")
    path, service = folder / "keys.json", small_service(folder)
    keys = {scope: add_key(path, scope, [scope], None) for scope in SCOPES}
    keys["no scope"] = add_key(path, "no scope", [], None)
    keys["elsewhere"] = add_key(path, "elsewhere", SCOPES, ["station"])
    yield create_app(service, Keys(path), 1_000_000, HOST), keys
    service.records.close()


def ask(app: FastAPI, route: str, key: str | None = None) -> int:
    """Send a request without a body, for sighting 1 of target mall, and return its status."""
    method, path = route.split()
    values = {"target": "mall", "sighting": "1", "person": "ada"}
    address = re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "1"), path)
    headers = {} if key is None else {HEADER: key}
    web = TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False)
    return web.request(method, address, headers=headers).status_code


@pytest.mark.parametrize("route", GUARDED)
def test_a_route_that_is_not_listed_as_open_needs_a_known_key(app_and_keys: AppAndKeys, route: str) -> None:
    app, _ = app_and_keys
    assert ask(app, route) == ask(app, route, "guess") == 401


def test_the_middleware_opens_the_listed_routes_and_no_others() -> None:
    folder = middleware.OPEN_FOLDER.removesuffix("/")
    assert {f"GET {path}" for path in [*middleware.OPEN_PATHS, folder]} == OPEN - {"HEAD /openapi.json"}


@pytest.mark.parametrize("route", GUARDED)
def test_a_route_with_a_scope_needs_a_key_even_below_an_open_path(
    app_and_keys: AppAndKeys, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "OPEN_FOLDER", "/")  # the middleware lets everything through, so the scope decides
    app, _ = app_and_keys
    assert ask(app, route) == 401


@pytest.mark.parametrize(("route", "scope"), product(GUARDED, [*SCOPES, "no scope"]))
def test_a_route_answers_the_scope_that_the_page_names_and_no_other(
    app_and_keys: AppAndKeys, route: str, scope: str
) -> None:
    app, keys = app_and_keys
    status = ask(app, route, keys[scope])
    if scope == documented_scopes()[route]:
        assert status not in (401, 403)
    else:
        assert status == 403


@pytest.mark.parametrize("route", [route for route in GUARDED if "{target}" in route])
def test_a_key_of_another_target_is_refused(app_and_keys: AppAndKeys, route: str) -> None:
    app, keys = app_and_keys
    assert ask(app, route, keys["elsewhere"]) == 403


@pytest.mark.parametrize("route", sorted(OPEN))
def test_a_route_listed_as_open_answers_without_a_key(app_and_keys: AppAndKeys, route: str) -> None:
    app, _ = app_and_keys
    assert route in ROUTES
    assert ask(app, route.replace("/static", "/static/page.js")) == 200


def test_the_page_names_every_route_and_those_without_a_scope_are_the_open_ones() -> None:
    named = documented_scopes()
    assert named.keys() == set(ROUTES) - {"HEAD /openapi.json"}
    assert {route for route, scope in named.items() if scope == "none"} == OPEN - {"HEAD /openapi.json"}


@pytest.mark.parametrize("path", ["/purge", "/v2/people", "/static", "/statics", "/metrics/more", "/healthz/more"])
def test_a_new_route_without_a_scope_needs_a_key(tmp_path: Path, path: str) -> None:
    add_key(tmp_path / "keys.json", "desk", ["search"], None)
    app = create_app(small_service(tmp_path), Keys(tmp_path / "keys.json"), 1_000, HOST)
    app.router.routes.pop()  # the folder /static, which would answer for every path below it
    app.get(path)(lambda: {"deleted": "everything"})
    assert ask(app, f"GET {path}") == 401


def test_a_websocket_is_refused(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "desk", ["search"], None)
    app = create_app(small_service(tmp_path), Keys(tmp_path / "keys.json"), 1_000, HOST)

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()

    web = TestClient(app, base_url=f"http://{HOST}")
    with pytest.raises(WebSocketDisconnect), web.websocket_connect("/v1/live"):
        pass


def test_an_empty_file_of_keys_accepts_no_request(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    app = create_app(small_service(tmp_path), Keys(tmp_path / "keys.json"), 1_000, HOST)
    assert {ask(app, route) for route in GUARDED} == {401}


@pytest.mark.parametrize("route", ROUTES)
def test_a_service_without_keys_answers_every_route_on_this_machine(tmp_path: Path, route: str) -> None:
    app = create_app(small_service(tmp_path), None, 1_000, HOST)
    assert ask(app, route) not in (401, 403)
