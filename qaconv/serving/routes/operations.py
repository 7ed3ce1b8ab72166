"""The page, the probes and the metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST

from qaconv.serving import schemas
from qaconv.serving.auth import Caller, require_scope
from qaconv.serving.bounds import LARGEST_BODY
from qaconv.serving.routes.common import REFUSALS, Responses
from qaconv.serving.service import Service
from qaconv.serving.telemetry import write_metrics

PAGE = Path(__file__).parents[1] / "static"
UNREADABLE = "the galleries cannot be read"
DISK_FULL = "the disk is full: new sightings are refused; searches and deletions go on"
LARGEST_ENROLMENT = 2 * LARGEST_BODY  # bytes of crops, and of their maps
NOT_READY: Responses = {
    503: {"model": schemas.Problem, "description": "The galleries cannot be read or are too old, or the disk is full."}
}
METRICS: Responses = {200: {"content": {"text/plain": {}}}}


def add_routes(app: FastAPI, service: Service, check: Callable[[], None]) -> None:
    """Add the page, `/healthz`, `/readyz` and `/metrics`.

    Args:
        app: the application.
        service: whose.
        check: raises where the galleries are a copy that is too old to answer from.
    """

    @app.get("/healthz")
    async def healthz() -> schemas.Health:
        """Answer if the process runs."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses=NOT_READY)
    def readyz() -> schemas.Health:
        """Answer if the galleries can be read and are up to date, the disk has room, and a model is loaded."""
        check()
        try:
            service.records.count()
            room = service.records.room()
        except Exception as error:
            raise HTTPException(503, UNREADABLE) from error
        if room < LARGEST_ENROLMENT:
            raise HTTPException(503, DISK_FULL)
        return schemas.Health(status="ready", version=service.active.version)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={**REFUSALS, **METRICS},
    )
    def metrics(caller: Annotated[Caller, require_scope("metrics")]) -> Response:
        """Return the metrics of the process, and of the key's targets, in the format of Prometheus."""
        return Response(write_metrics(caller.targets), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")
