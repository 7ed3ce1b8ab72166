"""Explain a logit by correspondences between the locations of two images.

C channels, h x w map size, S = h*w locations.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head


class Correspondence(NamedTuple):
    """A location and its best partner in the other image.

    Attributes:
        query: centre (x, y) of the query's location, in fractions of the image's width and height.
        gallery: the same in the gallery image.
        cosine: of the two locations.
        share: contribution to the logit: positive for one person, negative against.
        asked_by: "query" for a location of the query with its best partner, "gallery" the other way round.
    """

    query: tuple[float, float]
    gallery: tuple[float, float]
    cosine: float
    share: float
    asked_by: str


def correspondences(
    query_map: NDArray[np.float32], gallery_map: NDArray[np.float32], head: Head, limit: int
) -> list[Correspondence]:
    """Find the correspondences of two maps [C, h, w] that change the logit most, in either direction.

    A share is weight x (cosine - cosine of an average location). All 2*S shares and a constant sum to the logit.

    Args:
        query_map: of unit length over C.
        gallery_map: the same.
        head: the matcher as numbers.
        limit: largest number of correspondences.
    """
    _, height, width = query_map.shape
    cosines = query_map.reshape(len(query_map), -1).T @ gallery_map.reshape(len(gallery_map), -1)  # [S, S]
    locations = np.arange(len(cosines))
    query_locations = np.concatenate([locations, cosines.argmax(axis=0)])
    gallery_locations = np.concatenate([cosines.argmax(axis=1), locations])
    best = cosines[query_locations, gallery_locations]
    shares = np.concatenate([head.query, head.gallery]) * (best - head.average)
    strongest = np.argsort(-np.abs(shares), kind="stable")[:limit]
    return [
        Correspondence(
            _centre(query_locations[row], height, width),
            _centre(gallery_locations[row], height, width),
            float(best[row]),
            float(shares[row]),
            "query" if row < len(locations) else "gallery",
        )
        for row in strongest
    ]


def _centre(location: int, height: int, width: int) -> tuple[float, float]:
    row, column = divmod(int(location), width)
    return ((column + 0.5) / width, (row + 0.5) / height)
