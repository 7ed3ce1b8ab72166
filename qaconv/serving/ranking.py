"""Rank a gallery for one query, and say which sightings match."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.model import ServedModel
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.messages import Match
from qaconv.serving.places import UNKNOWN, Place


@dataclass(frozen=True)
class Request:
    """What all queries of a search have in common.

    Attributes:
        target: whose gallery.
        only: cameras and times to search.
        top_k: largest number of matches a query.
        shortlist: sightings that a query is matched with in full.
        threshold: probability above which a sighting is a match.
        even_odds: whether to state probabilities at even odds.
    """

    target: str
    only: Filter
    top_k: int
    shortlist: int
    threshold: float
    even_odds: bool


def rank_gallery(
    model: ServedModel, gallery: Gallery, request: Request, query: Place, query_map: NDArray[np.float32]
) -> list[Match]:
    """Return the best sightings of a query [C, h, w], the best first, without the query itself.

    Sightings at a camera that the target's profile lacks are matched by appearance alone.
    """
    found = gallery.search(model, query_map, request.only, max(request.shortlist, request.top_k) + 1)
    ids, logits = found.ids, found.logits
    camid, time_s = UNKNOWN, np.nan
    if query.camid is not None and query.time_s is not None:
        camid, time_s = query.camid, query.time_s
    profile = model.profiles[request.target]
    where = [camid], [time_s], *profile.leave_out_unknown(found.camids, found.times)
    stated = model.state(request.target, logits[None], *where, gallery=found.searched, even_odds=request.even_odds)
    probability = stated.probabilities[0]
    lifted = None if np.isnan(time_s) or not len(ids) else model.lift(request.target, logits[None], *where)
    ranking = logits if lifted is None else lifted[0]
    order = [row for row in np.lexsort((ids, -ranking)) if ids[row] != query.sighting]
    return [
        Match(
            id=int(ids[row]),
            camid=int(found.camids[row]),
            camera=found.cameras[row],
            time_s=None if np.isnan(found.times[row]) else float(found.times[row]),
            track=found.tracks[row],
            score=float(logits[row]),
            probability=float(probability[row]),
            match=bool(probability[row] > request.threshold),
            lifted=None if lifted is None else float(lifted[0, row]),
        )
        for row in order[: request.top_k]
    ]
