"""Identities of people: update, list, show, merge, split and forget them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse

from qaconv.errors import InputError
from qaconv.serving import fields, schemas
from qaconv.serving.auth import Caller, require_scope
from qaconv.serving.identities import schemas as identity_schemas
from qaconv.serving.identities.views import Wanted
from qaconv.serving.routes.common import PREFIX, REFUSALS, Responses, Target
from qaconv.serving.routes.operations import PAGE
from qaconv.serving.routes.sightings import CHANGES
from qaconv.serving.service import Service

IDENTITIES = f"{PREFIX}/identities"
IDENTITY = f"{IDENTITIES}/{{identity}}"
CHANGED: Responses = {
    **REFUSALS,
    **CHANGES,
    409: {"model": schemas.Problem, "description": "The target's profile or identities do not allow it."},
}
Person = Annotated[Caller, require_scope("review")]
Skip = Annotated[int, Query(ge=0, lt=fields.IDS, description="Number of results to leave out, those of earlier pages.")]
Limit = Annotated[int, Query(ge=1, le=500)]
Cameras = Annotated[int, Query(ge=1, le=1000, description="Seen on at least this number of cameras.", examples=[2])]
Camids = Annotated[
    list[fields.Camera] | None, Query(max_length=1000, description="Seen on one of these cameras.", examples=[[0, 2]])
]
From = Annotated[fields.TimeOfAddress | None, Query(description="Seen then or later.", examples=[0])]
To = Annotated[fields.TimeOfAddress | None, Query(description="Seen then or earlier.", examples=[3600])]


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes of a target's identities, and their page."""
    _add_reading(app, service)
    _add_changes(app, service)

    @app.get("/identities", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "identities.html")


def _add_reading(app: FastAPI, service: Service) -> None:
    search = [require_scope("search")]

    @app.get(IDENTITIES, responses=REFUSALS, dependencies=search)
    def list_identities(
        target: Target,
        camids: Camids = None,
        from_s: From = None,
        to_s: To = None,
        cameras: Cameras = 1,
        order: Annotated[Literal["number", "certainty"], Query(description="certainty: the least certain first.")] = (
            "number"
        ),
        skip: Skip = 0,
        limit: Limit = 50,
    ) -> identity_schemas.Identities:
        """List identities, and how far their update is."""
        wanted = Wanted(camids, from_s, to_s, cameras)
        least_certain_first = order == "certainty"
        total, identities = service.identities.list_identities(
            target, wanted, skip, limit, least_certain_first=least_certain_first
        )
        return identity_schemas.Identities(
            update=_update(service, target),
            total=total,
            identities=[identity_schemas.Identity(**vars(identity)) for identity in identities],
        )

    @app.get(IDENTITY, responses=REFUSALS, dependencies=search)
    def show_identity(target: Target, identity: fields.Number) -> identity_schemas.Journey:
        """Show the visits of one identity, with their sightings, and its merges and splits."""
        visits, changes = service.identities.show(target, identity)
        members = [member for visit in visits for member in visit.members or ()]
        return identity_schemas.Journey(
            identity=identity,
            sightings=len(members),
            probability=min(member.probability for member in members),
            visits=[identity_schemas.VisitWithMembers(**asdict(visit)) for visit in visits],
            changes=[identity_schemas.Change(**vars(change)) for change in changes],
        )

    @app.get(f"{PREFIX}/journeys", responses=REFUSALS, dependencies=search)
    def list_journeys(
        target: Target,
        camids: Camids = None,
        from_s: From = None,
        to_s: To = None,
        cameras: Cameras = 1,
        skip: Skip = 0,
        limit: Limit = 50,
    ) -> identity_schemas.Journeys:
        """List the visits of all identities in order of time. `cameras` counts those of a visit's identity."""
        wanted = Wanted(camids, from_s, to_s, cameras)
        total, visits = service.identities.list_journeys(target, wanted, skip, limit)
        return identity_schemas.Journeys(
            total=total, visits=[identity_schemas.Visit(**vars(visit)) for visit in visits]
        )


def _add_changes(app: FastAPI, service: Service) -> None:
    @app.post(IDENTITIES, status_code=202, responses=CHANGED, dependencies=[require_scope("identify")])
    def update(target: Target) -> identity_schemas.Update:
        """Give the sightings of a target identities, in the background; from now on new sightings get one too."""
        with _conflicts():
            service.identities.start(target)
        return _update(service, target)

    @app.delete(IDENTITIES, responses=CHANGED, dependencies=[require_scope("delete")])
    def forget(target: Target) -> schemas.Deleted:
        """Delete all identities of a target, and give new sightings none. The sightings stay."""
        return schemas.Deleted(deleted=service.identities.forget(target))

    @app.post(f"{IDENTITY}/merge", responses=CHANGED)
    def merge(
        target: Target, identity: fields.Number, body: identity_schemas.Merge, caller: Person
    ) -> identity_schemas.Moved:
        """Join another identity to this one, which keeps its number. Updates keep to it."""
        with _conflicts():
            service.identities.merge(target, identity, body.other, caller.name)
        return identity_schemas.Moved(identity=identity)

    @app.post(f"{IDENTITY}/split", responses=CHANGED)
    def split(
        target: Target, identity: fields.Number, body: identity_schemas.Split, caller: Person
    ) -> identity_schemas.Moved:
        """Move sightings of this identity to a new one, whose number is the answer. Updates keep to it."""
        with _conflicts():
            number = service.identities.split(target, identity, body.sightings, caller.name)
        return identity_schemas.Moved(identity=number)


@contextmanager
def _conflicts() -> Iterator[None]:
    """Answer 409 where a request fits the schema and not the target's profile or identities."""
    try:
        yield
    except InputError as error:
        raise HTTPException(409, str(error)) from error


def _update(service: Service, target: str) -> identity_schemas.Update:
    state, progress = service.identities.state(target)
    return identity_schemas.Update(wanted=state.wanted, updated_s=state.updated_s, **vars(progress))
