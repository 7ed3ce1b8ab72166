"""Score pairs of stored sightings as the active version sees them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qaconv.reviews.sample import CANDIDATES
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.gallery import Filter
from qaconv.serving.messages import Query
from qaconv.serving.places import UNKNOWN, number_camera, place_query
from qaconv.serving.reviews.store import Draw, ScoredPair
from qaconv.serving.storage import Records, Sighting
from qaconv.tlift.probability import GallerySize


def find_candidates(
    records: Records, active: ActiveVersion, target: str, ids: Sequence[int], shortlist: int
) -> list[ScoredPair]:
    """Search for stored sightings, and return the pairs with their most probable answers, each pair once, in order.

    Answers are sightings on other cameras, at most CANDIDATES a search; where all sightings are on one camera, those of
    other tracks. A probability is that of the two sightings alone, without the rest of their tracks.

    Args:
        records: the stored sightings.
        active: version that searches.
        target: whose gallery.
        ids: sightings to search for; one that is deleted meanwhile, or has no map, is left out.
        shortlist: number of sightings that each is matched with in full.
    """
    gallery, profile = active.find(target)
    one_camera = len(gallery.camids()) <= 1
    pairs: dict[tuple[int, int], ScoredPair] = {}
    for sighting in ids:
        stored = records.find(sighting)
        query_map = records.map_of(sighting, active.model.encoder_digest, active.model.map_shape)
        if stored is None or query_map is None:
            continue
        stored = number_camera(profile, stored)
        candidates = gallery.search(active.model, query_map[None], Filter(), shortlist + 1)
        others = candidates.camids != stored.camid
        if one_camera:
            same_track = np.array([track is not None and track == stored.track for track in candidates.tracks], bool)
            others = (candidates.ids != sighting) & ~same_track
        ids_of, logits = candidates.ids[others], candidates.logits[:, others]
        places = candidates.camids[others], candidates.times[others]
        stated = _state(active, target, stored, logits, places, candidates.searched)
        for position in np.lexsort((ids_of, -stated))[:CANDIDATES]:
            first, second = sorted((sighting, int(ids_of[position])))
            scored = ScoredPair(first, second, float(logits[0, position]), float(stated[position]))
            pairs.setdefault((first, second), scored)
    return [pairs[key] for key in sorted(pairs)]


def state_pair(
    records: Records, active: ActiveVersion, target: str, first: Sighting, second: Sighting
) -> tuple[ScoredPair, Draw]:
    """State what a version says of two stored sightings of a target, which somebody chose, in no sample.

    Raises:
        NotFound: one was deleted meanwhile, or its image is no longer decoded.
    """
    gallery, profile = active.find(target)
    first_map, second_map = (active.map_of(records, sighting.id) for sighting in (first, second))
    logits = active.model.score(first_map[None], second_map[None])
    other = number_camera(profile, second)
    places = np.array([other.camid]), np.array([np.nan if other.time_s is None else other.time_s])
    (stated,) = _state(active, target, first, logits, places, gallery.size())
    threshold, _ = active.model.threshold_of(target)
    return ScoredPair(first.id, second.id, float(logits[0, 0]), float(stated)), Draw(0, active.version, threshold, 0)


def _state(
    active: ActiveVersion,
    target: str,
    query: Sighting,
    logits: NDArray[np.float32],
    places: tuple[NDArray[np.int64], NDArray[np.float64]],
    gallery: GallerySize,
) -> NDArray[np.float64]:
    """Return the stated probabilities of one stored sighting with others, [K].

    Args:
        active: the version.
        target: of the sightings.
        query: the stored sighting.
        logits: [1, K].
        places: cameras and times of the others, [K] each.
        gallery: in which they are searched for.
    """
    profile = active.model.profiles[target]
    place = place_query(profile, Query(sighting=query.id), query)
    camid, time_s = UNKNOWN, np.nan
    if place.camid is not None and place.time_s is not None:
        camid, time_s = place.camid, place.time_s
    others = profile.leave_out_unknown(*places)
    stated: NDArray[np.float64] = active.model.state(
        target, logits, [camid], [time_s], *others, gallery=gallery
    ).probabilities[0]
    return stated
