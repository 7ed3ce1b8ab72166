"""The maps of two images go in; which place of one answers which of the other, and what that adds, comes out.

C channels, h x w map size, S = h*w locations.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head


class Correspondence(NamedTuple):
    """A location and its best partner in the other image.

    Places are centres (x, y) in shares of an image's width and height, in [0, 1].
    """

    query: tuple[float, float]
    gallery: tuple[float, float]
    cosine: float
    share: float  # of the logit: positive speaks for one person, negative against
    asked_by: str  # "query": the gallery's best answer to a place of the query; "gallery": the other way round


def correspondences(
    query_map: NDArray[np.float32], gallery_map: NDArray[np.float32], head: Head, limit: int
) -> list[Correspondence]:
    """Maps [C, h, w] of two images to the `limit` correspondences that move the logit most, either way.

    A share is weight x (cosine - that of an average location). All 2*S shares and a constant sum to the logit.
    """
    _, height, width = query_map.shape
    cosines = query_map.reshape(len(query_map), -1).T @ gallery_map.reshape(len(gallery_map), -1)  # [S, S]
    locations = np.arange(len(cosines))
    query_places = np.concatenate([locations, cosines.argmax(axis=0)])
    gallery_places = np.concatenate([cosines.argmax(axis=1), locations])
    best = cosines[query_places, gallery_places]
    shares = np.concatenate([head.query, head.gallery]) * (best - head.average)
    strongest = np.argsort(-np.abs(shares), kind="stable")[:limit]
    return [
        Correspondence(
            _centre(query_places[at], height, width),
            _centre(gallery_places[at], height, width),
            float(best[at]),
            float(shares[at]),
            "query" if at < len(locations) else "gallery",
        )
        for at in strongest
    ]


def _centre(location: int, height: int, width: int) -> tuple[float, float]:
    row, column = divmod(int(location), width)
    return ((column + 0.5) / width, (row + 0.5) / height)
