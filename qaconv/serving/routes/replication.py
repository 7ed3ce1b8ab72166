"""What followers read from their leader, in MessagePack, and how they count requests together."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from starlette.concurrency import run_in_threadpool

from qaconv.serving.auth import Caller, require_scope
from qaconv.serving.fields import IDS
from qaconv.serving.replication import messages
from qaconv.serving.replication.client import WAIT_S
from qaconv.serving.replication.history import Position
from qaconv.serving.replication.leader import Leader, check_is_leader
from qaconv.serving.request_limit import RequestLimit
from qaconv.serving.service import Service

LOOK_S = 0.05  # between two looks for a change
Word = Annotated[str, Query(max_length=200)]
Number = Annotated[int, Query(ge=0, lt=IDS)]


def add_routes(app: FastAPI, service: Service, limit: RequestLimit) -> None:
    """Add the routes below `/replication/`. They are not part of the OpenAPI document, as only followers ask them."""
    options: dict[str, Any] = {
        "dependencies": [Depends(_check_key)],
        "include_in_schema": False,
        "response_class": Response,
    }
    leader = Leader(service)

    @app.get("/replication/wait", **options)
    async def wait(gallery: Word, start: Word, sighting: Number, deletion: Number) -> Response:
        """Answer when a copy lacks something, at the latest after WAIT_S."""
        copy = Position(gallery, start, sighting, deletion)
        check_is_leader(service)
        until = time.monotonic() + WAIT_S
        while await run_in_threadpool(leader.is_at_end, copy) and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)
        return Response(status_code=204)

    @app.get("/replication/changes", **options)
    def changes(gallery: Word = "", start: Word = "", sighting: Number = 0, deletion: Number = 0) -> Response:
        """Return what a copy lacks, or the first part of it; without a position, of an empty copy."""
        check_is_leader(service)
        return _answer(leader.changes(Position(gallery, start, sighting, deletion) if gallery else None))

    @app.get("/replication/ids", **options)
    def ids(after: Number) -> Response:
        """Return ids of sightings above an id."""
        check_is_leader(service)
        return _answer(leader.ids(after))

    @app.get("/replication/maps", **options)
    def maps(encoder: Word, after: Number) -> Response:
        """Return maps of sightings above an id."""
        check_is_leader(service)
        return _answer(leader.maps(encoder, after))

    @app.get("/replication/version", **options)
    def version() -> Response:
        """Return the version that answers, and its files."""
        check_is_leader(service)
        return _answer(leader.version())

    @app.get("/replication/file", **options)
    def file(folder: Word, path: Word, offset: Number) -> Response:
        """Return a part of a file of the version that answers."""
        check_is_leader(service)
        return Response(leader.read_file(folder, path, offset), media_type="application/octet-stream")

    @app.post("/replication/requests", **options)
    def requests(key: Word, count: Annotated[int, Query(ge=1, le=1_000_000)]) -> Response:
        """Count requests of a key that a follower is about to answer."""
        check_is_leader(service)
        return _answer(messages.Allowed(**limit.take(key, count)._asdict()))


def _check_key(caller: Annotated[Caller, require_scope("replicate")]) -> None:
    if caller.targets is not None:
        raise HTTPException(403, f"key {caller.name!r} must be for all targets, as a follower copies all of them")


def _answer(message: messages.Changes | messages.Ids | messages.Maps | messages.Version | messages.Allowed) -> Response:
    return Response(message.pack(), media_type=messages.MEDIA_TYPE)
