"""Rank the tracks of a gallery for one query, and say which of them match."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.model import ServedModel
from qaconv.runtime.tracks import mean_scores, number_tracks, rank_in_tracks, score_tracks
from qaconv.serving.gallery import Candidates, Filter, Gallery
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
        threshold: probability above which an answer is a match.
        even_odds: whether to state probabilities at even odds.
    """

    target: str
    only: Filter
    top_k: int
    shortlist: int
    threshold: float
    even_odds: bool


def rank_gallery(
    model: ServedModel, gallery: Gallery, request: Request, query: Place, query_maps: NDArray[np.float32]
) -> list[Match]:
    """Return the best tracks for the crops [n, C, h, w] of a query, the best first, without the query itself.

    A track has the camera and the time of its best sighting. Sightings at a camera that the target's profile lacks are
    matched by appearance alone.
    """
    candidates = gallery.search(model, query_maps, request.only, max(request.shortlist, request.top_k) + 1)
    one_track = np.zeros(len(query_maps), dtype=np.int64)
    numbers = number_tracks(_track_names(candidates, query))
    members = rank_in_tracks(candidates.logits.max(axis=0), numbers, candidates.ids)
    best = np.array([positions[0] for positions in members], dtype=np.int64)
    ids, camids, times = candidates.ids[best], candidates.camids[best], candidates.times[best]
    scores = score_tracks(candidates.logits, one_track, numbers)
    camid, time_s = UNKNOWN, np.nan
    if query.camid is not None and query.time_s is not None:
        camid, time_s = query.camid, query.time_s
    profile = model.profiles[request.target]
    where = [camid], [time_s], *profile.leave_out_unknown(camids, times)
    logits = mean_scores(candidates.logits, one_track, numbers)
    stated = model.state(request.target, logits, *where, gallery=candidates.searched, even_odds=request.even_odds)
    probability = stated.probabilities[0]
    lifted = None if np.isnan(time_s) or not len(best) else model.lift(request.target, scores, *where)
    ranking = scores[0] if lifted is None else lifted[0]
    order = [track for track in np.lexsort((ids, -ranking)) if ids[track] != query.sighting]
    return [
        Match(
            id=int(ids[track]),
            camid=int(camids[track]),
            camera=candidates.cameras[best[track]],
            time_s=None if np.isnan(times[track]) else float(times[track]),
            track=candidates.tracks[best[track]],
            sightings=candidates.ids[members[track]].tolist(),
            score=float(scores[0, track]),
            probability=float(probability[track]),
            match=bool(probability[track] > request.threshold),
            lifted=None if lifted is None else float(lifted[0, track]),
        )
        for track in order[: request.top_k]
    ]


def _track_names(candidates: Candidates, query: Place) -> list[str]:
    """Name the tracks with their cameras, as two cameras may use one name; the query itself is in no track."""
    return [
        "" if track is None or sighting == query.sighting else f"{camid if camera is None else camera}\n{track}"
        for sighting, camid, camera, track in zip(
            candidates.ids, candidates.camids, candidates.cameras, candidates.tracks, strict=True
        )
    ]
