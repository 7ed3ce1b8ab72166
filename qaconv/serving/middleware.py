"""Check, limit, log and count every request.

The key is checked before a body is read. The log names the key, the route and the status, and never an image, nor the
path: it may name a person.
"""

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from secrets import token_hex
from typing import Protocol

from prometheus_client import Counter, Histogram
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qaconv.serving.auth import ANYONE, HEADER, NO_KEY, Caller, Keys
from qaconv.serving.bounds import LARGEST_BODY, WorkLimit, bound_answer, bound_body, too_large

log = logging.getLogger("qaconv.requests")

# Paths that need no key: the pages, their files, the OpenAPI document and two probes. Every other path needs one.
OPEN_PATHS = frozenset({"/", "/identities", "/review", "/healthz", "/readyz", "/openapi.json"})
OPEN_FOLDER = "/static/"
FOLLOWERS_FOLDER = "/replication/"  # its routes, which need the scope replicate, have bounds of their own
WORK_FOLDER = "/v1/"  # its routes are limited at once; probes and metrics are answered while they are all taken
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"  # label of a method or route that does not exist: labels are a closed set
AT_ONCE = {"Retry-After": "1"}
HTTP_VERSIONS = frozenset({"1.0", "1.1"})  # of the versions that the server speaks, those with its limits of time
SECURITY = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",  # keeps pictures of people out of caches
}
REQUESTS = Counter("qaconv_requests_total", "Requests, by route and status.", ["method", "route", "status"])
SECONDS = Histogram(
    "qaconv_request_seconds",
    "Time from a request's first byte to its answer's last byte.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10),
)


class Limit(Protocol):
    """Counts requests."""

    async def wait_s(self, key: str) -> int | None:
        """Count a request of a key. Return None if it is allowed, else seconds until another one may be."""


class RequestMiddleware:
    """ASGI middleware for keys, limits, security headers, log and metrics.

    Args:
        app: the application.
        keys: the keys that are accepted. None: no key is asked for, for use on this machine alone.
        limit: of the requests of each key.
        is_counted: whether requests for a path are counted here. Default: all are.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys | None, limit: Limit, is_counted: Callable[[Scope], bool] = lambda scope: True
    ) -> None:
        self._app = app
        self._keys = keys
        self._limit = limit
        self._is_counted = is_counted
        self._work = WorkLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route has a WebSocket, and none may open without a key
            await send({"type": "websocket.close", "code": 1008})
            return
        began = time.perf_counter()
        status = 500
        request = token_hex(8)
        caller = self._caller(scope)
        bounded_send = bound_answer(send)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY.items(), (b"x-request-id", request.encode())]
            await bounded_send(message)

        try:
            refusal = await self._refusal(scope, caller)
            if refusal is None:
                scope.setdefault("state", {})["caller"] = caller
                with self._work.count(caller.name) if caller and _is_work(scope) else nullcontext():
                    await self._app(scope, bound_body(receive), sending)
            else:
                await refusal(scope, receive, sending)
        except Exception:
            if status == 500:
                log.exception("request %s failed", request)
            raise
        finally:
            self._record(scope, request, caller, status, time.perf_counter() - began)

    def _caller(self, scope: Scope) -> Caller | None:
        """Find the sender of a request; None where the key is missing or unknown."""
        if self._keys is None:
            return ANYONE
        key = dict(scope["headers"]).get(HEADER.lower().encode(), b"").decode("latin-1")
        return self._keys.caller(key) if key else None

    async def _refusal(self, scope: Scope, caller: Caller | None) -> JSONResponse | None:
        if scope["http_version"] not in HTTP_VERSIONS:
            return JSONResponse({"detail": "the version of HTTP must be 1.0 or 1.1"}, 505)
        if scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER):
            return None
        if caller is None:
            return JSONResponse({"detail": NO_KEY}, 401)
        is_counted = not _is_of_follower(scope, caller) and self._is_counted(scope)
        if is_counted and (wait := await self._limit.wait_s(caller.name)) is not None:
            return JSONResponse({"detail": "too many requests"}, 429, {"Retry-After": str(wait)})
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > LARGEST_BODY:
            return JSONResponse({"detail": too_large()}, 413)
        if _is_work(scope) and self._work.is_full_for(caller.name):
            return JSONResponse({"detail": "too many requests at once"}, 429, AT_ONCE)
        if _is_work(scope) and self._work.is_full():
            return JSONResponse({"detail": "the service is busy"}, 503, AT_ONCE)
        return None

    def _record(self, scope: Scope, request: str, caller: Caller | None, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", OTHER)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        REQUESTS.labels(method, route, status).inc()
        SECONDS.labels(route).observe(seconds)
        fields = {
            "request": request,
            "key": caller.name if caller else None,
            "method": method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
        }
        log.info("%s %s %d", method, route, status, extra={"fields": fields})


def _is_of_follower(scope: Scope, caller: Caller) -> bool:
    return str(scope["path"]).startswith(FOLLOWERS_FOLDER) and "replicate" in caller.scopes


def _is_work(scope: Scope) -> bool:
    return str(scope["path"]).startswith(WORK_FOLDER)
