"""A service and its keys go in; the HTTP application comes out: routes, and what is refused how."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import APIKeyHeader
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.routing import Match

from qaconv.errors import InputError
from qaconv.runtime.decode import FORMATS, find_format
from qaconv.serving import messages, schemas
from qaconv.serving.auth import Caller, Keys
from qaconv.serving.gallery import Filter
from qaconv.serving.middleware import HEADER, NO_KEY, Gate
from qaconv.serving.service import Full, NotFound, Service
from qaconv.serving.storage import Sighting

log = logging.getLogger(__name__)

KEY = Depends(APIKeyHeader(name=HEADER, auto_error=False))  # read by Gate; here for the OpenAPI document
PAGE = Path(__file__).parent / "static"
Target = Annotated[str, "The camera network."]
SightingId = schemas.Id
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Problem, "description": "The body is not JSON."},
    401: {"model": schemas.Problem, "description": "No key, or an unknown one."},
    403: {"model": schemas.Problem, "description": "The key lacks the scope or the target."},
    404: {"model": schemas.Problem, "description": "No such target, camera or sighting."},
    413: {"model": schemas.Problem, "description": "The body is too large."},
    422: {"model": schemas.Problem, "description": "A value is not legal; the message names it."},
    429: {"model": schemas.Problem, "description": "Too many requests; see Retry-After."},
}
FULL: dict[int | str, dict[str, Any]] = {507: {"model": schemas.Problem, "description": "There is no room for more."}}
IMAGES: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in FORMATS.values()}}}


def create_app(serving: Service, keys: Keys | None, requests_per_minute: int, host: str) -> FastAPI:
    """The application.

    Args:
        serving: what answers.
        keys: who may ask; None is anyone, for this machine's own use only.
        requests_per_minute: of each key.
        host: where it listens. Without keys no other name of it is answered, so that no web page that a browser has
            open can reach it by a name of its own (DNS rebinding).
    """
    app = FastAPI(
        title="QAConv Ops",
        description="Galleries of sightings of people, by target: enrol, search, explain, delete.",
        version=serving.in_charge.version,
        docs_url=None,  # its page would come from another server
        redoc_url=None,
    )
    _answer_errors(app)
    _add_routes(app, serving)
    _add_operations(app, serving)
    app.mount("/static", StaticFiles(directory=PAGE), name="static")
    if keys is None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", host])
    app.add_middleware(Gate, keys=keys, requests_per_minute=requests_per_minute)
    return app


def _allowed(scope: str) -> Any:
    """Return a dependency that refuses a caller without the scope, or without the path's target."""

    def check(
        request: Request, key: Annotated[str | None, Depends(APIKeyHeader(name=HEADER, auto_error=False))]
    ) -> Caller:
        caller: Caller | None = request.state.caller
        if caller is None:
            raise HTTPException(401, NO_KEY)
        target = request.path_params.get("target")
        if scope not in caller.scopes:
            raise HTTPException(403, f"key {caller.name!r} lacks the scope {scope}; it has {sorted(caller.scopes)}")
        if caller.targets is not None and target is not None and target not in caller.targets:
            raise HTTPException(403, f"key {caller.name!r} is not for {target}")
        return caller

    return Depends(check)


def _add_routes(app: FastAPI, serving: Service) -> None:
    prefix = "/v1/targets/{target}"

    @app.get("/v1/targets", responses=REFUSALS)
    def list_targets(caller: Annotated[Caller, _allowed("search")]) -> schemas.Targets:
        """The camera networks, and the model in charge."""
        answering = serving.in_charge
        return schemas.Targets(
            version=answering.version,
            calibrated=answering.model.calibrated,
            thresholds=[schemas.Threshold(**one._asdict()) for one in answering.model.thresholds],
            threshold=answering.model.threshold,
            targets=[
                schemas.Target(
                    name=name,
                    sightings=len(gallery),
                    cameras=sorted(answering.model.profiles[name].camids),
                    times_count=answering.model.profiles[name].active,
                    retention_days=serving.settings.retention_days.get(name),
                )
                for name, gallery in answering.galleries.items()
                if caller.targets is None or name in caller.targets
            ],
        )

    @app.post(f"{prefix}/sightings", status_code=201, responses={**REFUSALS, **FULL}, dependencies=[_allowed("enrol")])
    def enrol(target: Target, body: schemas.Enrolment) -> schemas.Enrolled:
        """Stores crops, all or none; they are on disk when this answers."""
        new = [messages.NewSighting(**vars(sighting)) for sighting in body.sightings]
        return schemas.Enrolled(ids=serving.enrol(target, new))

    @app.get(f"{prefix}/sightings", responses=REFUSALS, dependencies=[_allowed("search")])
    def list_sightings(
        target: Target,
        after: Annotated[int, Query(ge=0, lt=schemas.IDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> schemas.Sightings:
        """Stored sightings in the order of enrolment, from the one after `after`."""
        found = serving.page(target, after, limit)
        return schemas.Sightings(sightings=[_stored(sighting) for sighting in found])

    @app.get(f"{prefix}/sightings/{{sighting}}", responses=REFUSALS, dependencies=[_allowed("search")])
    def show_sighting(target: Target, sighting: SightingId) -> schemas.StoredSighting:
        """Where and when one sighting was."""
        return _stored(serving.sighting(target, sighting))

    @app.get(
        f"{prefix}/sightings/{{sighting}}/image",
        response_class=Response,
        responses={**REFUSALS, **IMAGES},
        dependencies=[_allowed("search")],
    )
    def show_image(target: Target, sighting: SightingId) -> Response:
        """The file as it was enrolled."""
        crop = serving.crop(target, sighting)
        return Response(crop, media_type=FORMATS[find_format(crop)])

    @app.delete(f"{prefix}/sightings/{{sighting}}", responses=REFUSALS, dependencies=[_allowed("delete")])
    def delete_sighting(target: Target, sighting: SightingId) -> schemas.Deleted:
        """Overwrites one sighting's crop and map."""
        return schemas.Deleted(deleted=serving.delete(target, [serving.sighting(target, sighting).id]))

    @app.delete(f"{prefix}/people/{{person}}", responses=REFUSALS, dependencies=[_allowed("delete")])
    def delete_person(target: Target, person: schemas.Person) -> schemas.Deleted:
        """Overwrites all crops and maps that were enrolled with this word for who it is; none is fine."""
        return schemas.Deleted(deleted=serving.delete_person(target, person))

    @app.post(f"{prefix}/search", responses=REFUSALS, dependencies=[_allowed("search")])
    def search(target: Target, body: schemas.SearchRequest) -> schemas.SearchAnswer:
        """Each query's best sightings, by crop or stored sighting, among chosen cameras and times."""
        queries = [messages.Query(**dict(query)) for query in body.queries]
        camids = None if body.camids is None else frozenset(body.camids)
        only = Filter(camids, body.from_s, body.to_s)
        answer = serving.search(target, queries, only, body.top_k, body.threshold)
        matches = [[schemas.Match(**vars(match)) for match in found] for found in answer.results]
        return schemas.SearchAnswer(version=answer.version, threshold=answer.threshold, results=matches)

    @app.post(f"{prefix}/explain", responses=REFUSALS, dependencies=[_allowed("search")])
    def explain(target: Target, body: schemas.ExplainRequest) -> schemas.Explanation:
        """Which places of a query and a sighting answer each other, and what each adds to the score."""
        found = serving.explain(target, messages.Query(**dict(body.query)), body.sighting, body.limit)
        return schemas.Explanation(correspondences=[schemas.Correspondence(**pair._asdict()) for pair in found])


def _stored(sighting: Sighting) -> schemas.StoredSighting:
    return schemas.StoredSighting(**{name: value for name, value in vars(sighting).items() if name != "target"})


def _add_operations(app: FastAPI, serving: Service) -> None:
    @app.get("/healthz")
    def healthz() -> schemas.Health:
        """The process answers."""
        return schemas.Health(status="ok")

    @app.get("/readyz", responses={503: {"model": schemas.Problem, "description": "The galleries can not be read."}})
    def readyz() -> schemas.Health:
        """The galleries can be read, and a model answers."""
        try:
            serving.records.count()
        except Exception as error:
            raise HTTPException(503, "the galleries can not be read") from error
        return schemas.Health(status="ready", version=serving.in_charge.version)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={**REFUSALS, 200: {"content": {"text/plain": {}}}},
        dependencies=[_allowed("metrics")],
    )
    def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")


def _answer_errors(app: FastAPI) -> None:
    """Each refusal is one sentence; what a request held, or where a fault lies in the code, is not in it."""

    def answer(status: int, said: Callable[[Any], str]) -> Callable[[Request, Any], JSONResponse]:
        return lambda request, error: JSONResponse({"detail": said(error)}, status)

    def wrong_method(request: Request, error: Any) -> JSONResponse:
        """Starlette would name the methods of the path's first route only."""
        matching = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
        allowed = sorted({method for route in matching for method in getattr(route, "methods", None) or ()})
        return JSONResponse({"detail": f"legal are {', '.join(allowed)}"}, 405, {"Allow": ", ".join(allowed)})

    app.add_exception_handler(405, wrong_method)
    app.add_exception_handler(InputError, answer(422, str))
    app.add_exception_handler(NotFound, answer(404, str))
    app.add_exception_handler(Full, answer(507, str))
    app.add_exception_handler(
        RequestValidationError,
        answer(
            422,
            lambda error: "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()),
        ),
    )
    app.add_exception_handler(Exception, answer(500, lambda error: "the service has failed; its log says more"))
