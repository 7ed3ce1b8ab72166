"""Search with one version: find the queries' maps, and rank a gallery by each."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.encoding import CropEncoder
from qaconv.serving.messages import Answer, Limits, Query
from qaconv.serving.places import UNKNOWN, NotFound, Place, find_cameras, place_limits, place_query
from qaconv.serving.ranking import Request, rank_gallery
from qaconv.serving.recall import Sample
from qaconv.serving.storage import Records, Sighting


class Search(NamedTuple):
    """What is searched for; see `Service.search`."""

    target: str
    queries: Sequence[Query]
    only: Limits
    top_k: int
    threshold: float | None
    even_odds: bool


def search_version(
    active: ActiveVersion, records: Records, encoder: CropEncoder, shortlist: int, wanted: Search
) -> tuple[Answer, Sample]:
    """Return the answer of a version, and the first query as a sample for the recall of shortlists.

    Raises:
        NotFound: unknown target, camera or sighting.
        InputError: an image is refused, or a camera or a time has another form than in the target's profile.
    """
    target, queries = wanted.target, wanted.queries
    gallery, profile = active.find(target)
    find_cameras(profile, [query.camid for query in queries if query.camid is not None])  # names all that it lacks
    stored = [None if query.sighting is None else find_stored(records, target, query.sighting) for query in queries]
    places = [place_query(profile, query, sighting) for query, sighting in zip(queries, stored, strict=True)]
    searched = place_limits(profile, wanted.only)
    maps = find_maps(active, records, encoder, queries, places)
    default, source = active.model.threshold_of(target, even_odds=wanted.even_odds)
    threshold = default if wanted.threshold is None else wanted.threshold
    request = Request(target, searched, wanted.top_k, shortlist, threshold, wanted.even_odds)
    rank = partial(rank_gallery, active.model, gallery, request)
    tasks = [encoder.pool.submit(rank, place, query_maps) for place, query_maps in zip(places, maps, strict=True)]
    answer = Answer(active.version, threshold, source, [task.result() for task in tasks])
    return answer, Sample(active.model, gallery, searched, maps[0])


def find_stored(records: Records, target: str, sighting: int) -> Sighting:
    """Return one sighting as it was enrolled.

    Raises:
        NotFound: the target has no such sighting.
    """
    stored = records.find(sighting)
    if stored is None or stored.target != target:
        raise NotFound(f"{target} has no sighting {sighting}")
    return stored


def find_maps(
    active: ActiveVersion,
    records: Records,
    encoder: CropEncoder,
    queries: Sequence[Query],
    places: Sequence[Place],
) -> list[NDArray[np.float32]]:
    """Return each query's maps [n, C, h, w]: a stored one, or those of new crops, which are encoded together.

    New crops are encoded for the camera of their place, a stored sighting was encoded for its own.
    """
    images: list[bytes] = []
    camids: list[int] = []
    for query, place in zip(queries, places, strict=True):
        images += query.images
        camids += [UNKNOWN if place.camid is None else place.camid] * len(query.images)
    encoded = encoder.encode(active.model, images, camids)
    ends = np.cumsum([len(query.images) for query in queries])
    return [
        maps if query.sighting is None else active.map_of(records, query.sighting)[None]
        for query, maps in zip(queries, np.split(encoded, ends[:-1]), strict=True)
    ]
