"""Enrol, list, show and delete sightings."""

from typing import Annotated

from fastapi import FastAPI, Query, Response

from qaconv.runtime.decode import FORMATS, find_format
from qaconv.serving import fields, messages, schemas
from qaconv.serving.auth import require_scope
from qaconv.serving.bounds import check_pixels
from qaconv.serving.routes.common import PREFIX, REFUSALS, Responses, Target
from qaconv.serving.service import Service
from qaconv.serving.storage import Sighting

CHANGES: Responses = {
    503: {"model": schemas.Problem, "description": "Another program keeps the galleries locked."},
    507: {"model": schemas.Problem, "description": "Memory or the disk is full."},
}
IMAGES: Responses = {200: {"content": {kind: {} for kind in FORMATS.values()}}}


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes of a target's sightings and people."""
    _add_enrolment(app, service)
    _add_reading(app, service)
    _add_deletion(app, service)


def _add_enrolment(app: FastAPI, service: Service) -> None:
    responses = {**REFUSALS, **CHANGES}

    @app.post(f"{PREFIX}/sightings", status_code=201, responses=responses, dependencies=[require_scope("enrol")])
    def enrol(target: Target, body: schemas.Enrolment) -> schemas.Enrolled:
        """Store crops, all or none. They are on disk when this answers.

        A sighting is stored once: if the same file is there with the same camera, time, person and track, that
        one's id is the answer.
        """
        sightings = [messages.NewSighting(**vars(sighting)) for sighting in body.sightings]
        check_pixels(sighting.image for sighting in sightings)
        return schemas.Enrolled(**vars(service.enrol(target, sightings)))


def _add_reading(app: FastAPI, service: Service) -> None:
    search = [require_scope("search")]

    @app.get(f"{PREFIX}/sightings", responses=REFUSALS, dependencies=search)
    def list_sightings(
        target: Target,
        after: Annotated[int, Query(ge=0, lt=fields.IDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> schemas.Sightings:
        """List stored sightings with ids above `after`, in the order of enrolment."""
        return schemas.Sightings(sightings=[_stored(sighting) for sighting in service.page(target, after, limit)])

    @app.get(f"{PREFIX}/sightings/{{sighting}}", responses=REFUSALS, dependencies=search)
    def show_sighting(target: Target, sighting: fields.Id) -> schemas.StoredSighting:
        """Show camera, time, person and track of one sighting."""
        return _stored(service.sighting(target, sighting))

    @app.get(
        f"{PREFIX}/sightings/{{sighting}}/image",
        response_class=Response,
        responses={**REFUSALS, **IMAGES},
        dependencies=search,
    )
    def show_image(target: Target, sighting: fields.Id) -> Response:
        """Return the image file as it was enrolled."""
        crop = service.crop(target, sighting)
        return Response(crop, media_type=FORMATS[find_format(crop)])


def _add_deletion(app: FastAPI, service: Service) -> None:
    delete = [require_scope("delete")]
    responses = {**REFUSALS, **CHANGES}

    @app.delete(f"{PREFIX}/sightings/{{sighting}}", responses=responses, dependencies=delete)
    def delete_sighting(target: Target, sighting: fields.Id) -> schemas.Deleted:
        """Overwrite one sighting's crop and map."""
        return schemas.Deleted(deleted=service.delete([service.sighting(target, sighting).id]))

    @app.delete(f"{PREFIX}/people/{{person}}", responses=responses, dependencies=delete)
    def delete_person(target: Target, person: fields.Person) -> schemas.Deleted:
        """Overwrite all crops and maps that were enrolled with this `person`. None is not an error."""
        return schemas.Deleted(deleted=service.delete_person(target, person))


def _stored(sighting: Sighting) -> schemas.StoredSighting:
    return schemas.StoredSighting(**{name: value for name, value in vars(sighting).items() if name != "target"})
