"""Build the HTTP application: routes, page, errors and access."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import Match

from qaconv.errors import InputError
from qaconv.serving.active_version import Full
from qaconv.serving.auth import Keys
from qaconv.serving.database import Busy, DiskFull
from qaconv.serving.middleware import RequestMiddleware
from qaconv.serving.places import NotFound
from qaconv.serving.replication.client import LIMITS
from qaconv.serving.replication.follower import Follower, OutOfDate
from qaconv.serving.replication.leader import Diverged, NoLeader
from qaconv.serving.replication.passing import Passing, is_local
from qaconv.serving.replication.shared_limit import SharedLimit
from qaconv.serving.routes import identities, operations, replication, reviews, search, sightings, targets
from qaconv.serving.service import Service

MOST_FAULTS = 3  # of a body, that an answer names
LONGEST_FAULT = 300  # characters
LONGEST_DETAIL = 1_000


def create_app(
    service: Service, keys: Keys | None, requests_per_minute: int, host: str, follower: Follower | None = None
) -> FastAPI:
    """Build the application.

    Args:
        service: answers the requests.
        keys: the keys that are accepted. None: no key is asked for, for use on this machine alone.
        requests_per_minute: limit for each key.
        host: address that it listens on. Without keys only this name and localhost are answered, so that a web page
            cannot reach the service under a name of its own (DNS rebinding).
        follower: keeps the galleries a copy of a leader's. Default: they are this service's own.
    """
    app = FastAPI(
        title="QAConv Ops",
        description="Galleries of sightings of people, by target: enrol, search, explain, review, delete.",
        version=service.active.version,
        docs_url=None,  # its page would load scripts from another server
        redoc_url=None,
    )
    _answer_errors(app)
    limit = service.records.request_limit(requests_per_minute)
    for routes in (targets, sightings, search, identities, reviews):
        routes.add_routes(app, service)
    operations.add_routes(app, service, follower.check if follower else lambda: None)
    replication.add_routes(app, service, limit)
    app.mount("/static", StaticFiles(directory=operations.PAGE), name="static")
    client = httpx.AsyncClient(base_url=follower.url, limits=LIMITS) if follower else None
    if follower and client:
        app.add_middleware(Passing, follower=follower, client=client)
    if keys is None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", host])
    if follower and client:
        shared = SharedLimit(limit, client, follower.link)
        app.add_middleware(RequestMiddleware, keys=keys, limit=shared, is_counted=is_local)
    else:
        app.add_middleware(RequestMiddleware, keys=keys, limit=limit)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Answer each error with a bounded text that repeats no value of the request and shows no code."""

    def answer(status: int, message: Callable[[Any], str]) -> Callable[[Request, Any], JSONResponse]:
        return lambda request, error: JSONResponse({"detail": _shorten(message(error), LONGEST_DETAIL)}, status)

    def wrong_method(request: Request, error: Any) -> JSONResponse:
        """Name the methods of every route of the path; Starlette names those of the first."""
        matching = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
        methods = sorted({method for route in matching for method in getattr(route, "methods", None) or ()})
        return JSONResponse({"detail": f"allowed: {', '.join(methods)}"}, 405, {"Allow": ", ".join(methods)})

    def invalid(error: RequestValidationError) -> str:
        faults = error.errors()
        more = [f"{len(faults) - MOST_FAULTS:,} more"] if len(faults) > MOST_FAULTS else []
        return "; ".join([*map(_describe, faults[:MOST_FAULTS]), *more])

    app.add_exception_handler(405, wrong_method)
    app.add_exception_handler(InputError, answer(422, str))
    app.add_exception_handler(NotFound, answer(404, str))
    app.add_exception_handler(Full, answer(507, str))
    app.add_exception_handler(DiskFull, answer(507, str))
    app.add_exception_handler(Busy, answer(503, str))
    app.add_exception_handler(OutOfDate, answer(503, str))
    app.add_exception_handler(Diverged, answer(409, str))
    app.add_exception_handler(NoLeader, answer(421, str))
    app.add_exception_handler(RequestValidationError, answer(422, invalid))
    app.add_exception_handler(Exception, answer(500, lambda error: "the service has failed; its log says more"))


def _describe(fault: Mapping[str, Any]) -> str:
    """Name the place and the fault. An unknown field's name is the caller's text, and is left out."""
    place = fault["loc"]
    message = fault["msg"]
    if fault["type"] == "extra_forbidden":
        place = place[:-1]
        message = "has an unknown field"
    return _shorten(f"{'.'.join(map(str, place))}: {message}", LONGEST_FAULT)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
