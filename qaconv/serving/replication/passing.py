"""Answer from the copy what it can answer, and pass all else on to the leader, with the client's own key."""

import asyncio
import logging
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from qaconv.serving.auth import HEADER
from qaconv.serving.middleware import WORK_FOLDER
from qaconv.serving.replication.client import CONNECT_S, Unreachable
from qaconv.serving.replication.follower import Follower, OutOfDate
from qaconv.serving.routes.common import PREFIX

log = logging.getLogger(__name__)

SIGHTINGS = f"{PREFIX}/sightings"
# What the copy answers. All other routes below /v1/ are the leader's, so that none can change the copy alone.
LOCAL = frozenset(
    {
        ("GET", "/v1/targets"),
        ("POST", f"{PREFIX}/search"),
        ("POST", f"{PREFIX}/explain"),
        ("GET", SIGHTINGS),
        ("GET", f"{SIGHTINGS}/{{sighting}}"),
        ("GET", f"{SIGHTINGS}/{{sighting}}/image"),
    }
)
# After these the copy must have what the leader has done.
COPIED = frozenset(
    {("POST", SIGHTINGS), ("DELETE", f"{SIGHTINGS}/{{sighting}}"), ("DELETE", f"{PREFIX}/people/{{person}}")}
)
SENT = ("content-type", "accept", HEADER.lower())  # headers of a request
RETURNED = ("content-type", "retry-after", "allow")  # of an answer
ANSWER_S = 60.0  # for the leader to answer
LOOK_S = 1.0  # between two looks whether it is in reach
UNCHANGED = "the leader is out of reach; nothing was changed"
UNKNOWN = "the leader has not answered; it may have done what was asked: repeat the request"
NOT_HERE = "the leader has done what was asked, but this machine's copy does not show it yet: repeat the request"
LATER = {"Retry-After": "5"}


class Passing:
    """ASGI middleware of a follower.

    Args:
        app: answers from the copy.
        follower: keeps the copy.
        client: asks the leader.
    """

    def __init__(self, app: ASGIApp, follower: Follower, client: httpx.AsyncClient) -> None:
        self._app = app
        self._follower = follower
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _find_route(scope) if scope["type"] == "http" else None
        if route is None or not route[1].startswith(WORK_FOLDER):
            await self._app(scope, receive, send)
        elif route in LOCAL:
            try:
                self._follower.check()
            except OutOfDate as error:
                await _refuse(str(error))(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        else:
            try:
                answer = await self._pass_on(scope, receive, route)
            except HTTPException as error:  # of a body that is too large or too slow
                answer = JSONResponse({"detail": error.detail}, error.status_code)
            await answer(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, route: tuple[str, str]) -> Response:
        """Send a request to the leader; answer when the copy has what it has changed."""
        if self._follower.link.is_cut:
            return _refuse(UNCHANGED)
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _refuse(UNCHANGED)
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if (answer := await self._ask(scope, route, body)) is None:
            return _refuse(UNKNOWN)
        if route in COPIED and answer.status_code < 500:
            try:
                await run_in_threadpool(self._follower.catch_up)
            except (OutOfDate, Unreachable):
                return _refuse(NOT_HERE)
        return answer

    async def _ask(self, scope: Scope, route: tuple[str, str], body: bytes) -> Response | None:
        """Return the leader's answer; None if it does not answer while it is in reach."""
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        address = scope["raw_path"].decode("ascii") + "?" + scope["query_string"].decode("latin-1")
        sent = {name: headers[name] for name in SENT if name in headers}
        request = asyncio.create_task(
            self._client.request(
                route[0],
                address.removesuffix("?"),
                content=body or None,
                headers=sent,
                timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            )
        )
        while not request.done() and not self._follower.link.is_cut:
            await asyncio.wait({request}, timeout=LOOK_S)
        request.cancel()
        try:
            answer = await request
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return _refuse(UNCHANGED)
        except (httpx.HTTPError, asyncio.CancelledError) as error:
            log.warning("the leader has not answered %s %s: %r", *route, error)
            return None
        returned = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
        return Response(answer.content, answer.status_code, returned)


def is_local(scope: Scope) -> bool:
    """Return whether a follower answers a request itself, so that it counts it."""
    route = _find_route(scope)
    return route is None or route in LOCAL or not route[1].startswith(WORK_FOLDER)


def _find_route(scope: Scope) -> tuple[str, str] | None:
    """Return method and path of the route that a request is for, and let the log name it; None where there is none."""
    for route in scope["app"].routes:
        matches, _ = route.matches(scope)
        if matches is Match.FULL:
            scope["route"] = route
            path: Any = getattr(route, "path", "")
            return scope["method"], path
    return None


def _refuse(detail: str) -> Response:
    return JSONResponse({"detail": detail}, 503, LATER)
