"""Search a gallery, and explain a result."""

from fastapi import FastAPI

from qaconv.serving import messages, schemas
from qaconv.serving.auth import require_scope
from qaconv.serving.bounds import check_pixels
from qaconv.serving.routes.common import PREFIX, REFUSALS, Target
from qaconv.serving.service import Service


def add_routes(app: FastAPI, service: Service) -> None:
    """Add `search` and `explain` of a target."""
    access = [require_scope("search")]

    @app.post(f"{PREFIX}/search", responses=REFUSALS, dependencies=access)
    def search(target: Target, body: schemas.SearchRequest) -> schemas.SearchAnswer:
        """Return each query's best tracks, by crops or a stored sighting, among chosen cameras and times.

        A sighting without a track is an answer of its own.
        """
        queries = [_query(query) for query in body.queries]
        check_pixels(image for query in queries for image in query.images)
        camids = None if body.camids is None else frozenset(body.camids)
        only = messages.Limits(camids, body.from_s, body.to_s)
        answer = service.search(target, queries, only, body.top_k, body.threshold, body.even_odds)
        results = [[schemas.Match(**vars(match)) for match in matches] for matches in answer.results]
        return schemas.SearchAnswer(
            version=answer.version,
            threshold=answer.threshold,
            probability_from=answer.probability_from,
            results=results,
        )

    @app.post(f"{PREFIX}/explain", responses=REFUSALS, dependencies=access)
    def explain(target: Target, body: schemas.ExplainRequest) -> schemas.Explanation:
        """Return which locations of a query and a sighting match, and how much each adds to the score."""
        pairs = service.explain(target, _query(body.query), body.sighting, body.limit)
        return schemas.Explanation(correspondences=[schemas.Correspondence(**pair._asdict()) for pair in pairs])


def _query(query: schemas.SearchQuery) -> messages.Query:
    match query:
        case schemas.SightingQuery():
            return messages.Query(sighting=query.sighting, camid=query.camid, time_s=query.time_s)
        case schemas.ImagesQuery():
            return messages.Query(query.images, camid=query.camid, time_s=query.time_s)
        case schemas.ImageQuery():
            return messages.Query([query.image], camid=query.camid, time_s=query.time_s)
