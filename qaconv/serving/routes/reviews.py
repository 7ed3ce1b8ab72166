"""Ask people about pairs of sightings, and say what their answers mean."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse

from qaconv.reviews.estimate import Figure, ReviewedMatches
from qaconv.serving import fields
from qaconv.serving.auth import ANYONE, Caller, require_scope
from qaconv.serving.reviews import schemas
from qaconv.serving.reviews.reviews import Answered, Reviews
from qaconv.serving.routes.common import PREFIX, REFUSALS, Target
from qaconv.serving.routes.operations import PAGE
from qaconv.serving.routes.sightings import CHANGES
from qaconv.serving.service import Service
from qaconv.serving.storage import Sighting

Reviewer = Annotated[schemas.Reviewer | None, Query()]
Person = Annotated[Caller, require_scope("review")]


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the page `/review` and the routes of a target's reviews."""
    reviews = Reviews(service)
    changes = {**REFUSALS, **CHANGES}

    @app.get(f"{PREFIX}/reviews/next", responses=changes)
    def next_pairs(
        target: Target,
        caller: Person,
        reviewer: Reviewer = None,
        limit: Annotated[int, Query(ge=1, le=50)] = 10,
    ) -> schemas.ReviewTask:
        """Return the next pairs to review: a stratified random sample of the candidate pairs of the active version.

        The sample is drawn when it is first asked for, and again for another version or a gallery twice as large.
        """
        task = reviews.next(target, _name(caller, reviewer), limit)
        return schemas.ReviewTask(
            draw=task.draw.draw,
            version=task.draw.version,
            candidates=task.candidates,
            answered=task.answered,
            answered_by_reviewer=task.answered_by_reviewer,
            pairs=[schemas.AskedPair(first=_asked(pair.first), second=_asked(pair.second)) for pair in task.pairs],
        )

    @app.post(f"{PREFIX}/reviews", status_code=201, responses=changes)
    def answer(target: Target, body: schemas.ReviewAnswers, caller: Person) -> schemas.Stored:
        """Store a person's answers, all or none. They are on disk when this answers."""
        answers = [Answered(**vars(pair)) for pair in body.answers]
        reviews.answer(target, answers, _name(caller, body.reviewer), body.source)
        return schemas.Stored(stored=len(answers))

    @app.get(f"{PREFIX}/reviews", responses=REFUSALS, dependencies=[require_scope("review")])
    def list_answers(
        target: Target,
        after: Annotated[int, Query(ge=0, lt=fields.IDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        disputed: Annotated[bool, Query(description="Only answers that another person contradicts.")] = False,
    ) -> schemas.StoredReviews:
        """List answers with ids above `after`, in the order in which the pairs were first answered."""
        rows = reviews.page(target, after, limit, disputed=disputed)
        return schemas.StoredReviews(
            answers=[
                schemas.StoredReview(**vars(review), stratum_pairs=pairs, weight=weight)
                for review, pairs, weight in rows
            ]
        )

    @app.get(f"{PREFIX}/reviews/estimates", responses=changes, dependencies=[require_scope("review")])
    def estimates(target: Target) -> schemas.ReviewEstimates:
        """Estimate precision and recall of marked matches by the answers, with 95 per cent intervals."""
        made = reviews.estimate(target)
        return schemas.ReviewEstimates(
            draw=made.draw.draw,
            version=made.draw.version,
            threshold=made.draw.threshold,
            answers=made.reviewed.answers,
            cannot_tell=made.cannot_tell,
            disputed=made.disputed,
            reviewed=_figures(made.reviewed),
            stated=_figures(made.stated),
            recalibration={"scale": made.recalibration.scale, "offset": made.recalibration.offset},
            strata=[schemas.Stratum(**{**vars(cell), "pairs": round(cell.pairs)}) for cell in made.cells],
        )

    @app.get("/review", include_in_schema=False)
    def review_page() -> FileResponse:
        return FileResponse(PAGE / "review.html")


def _name(caller: Caller, given: str | None) -> str:
    """Return the name that answers are stored under: the key's, or without keys the one that is given.

    Raises:
        HTTPException: a name is given although the key has one.
    """
    if caller is ANYONE:
        return given or ANYONE.name
    if given is not None:
        raise HTTPException(403, f"reviewer must be left out: key {caller.name!r} answers under its own name")
    return caller.name


def _asked(sighting: Sighting) -> schemas.AskedSighting:
    fields = schemas.AskedSighting.model_fields
    return schemas.AskedSighting(**{name: getattr(sighting, name) for name in fields})


def _figures(matches: ReviewedMatches) -> schemas.PrecisionAndRecall:
    return schemas.PrecisionAndRecall(precision=_share(matches.precision), recall=_share(matches.recall))


def _share(figure: Figure | None) -> schemas.Share | None:
    return None if figure is None else schemas.Share(**vars(figure))
