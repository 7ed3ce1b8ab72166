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


class BestPartners(NamedTuple):
    """The best partner of each location of two maps, in both directions, and its contribution to the logit; [S] each.

    Attributes:
        query_cosines: largest cosine of each query location with the gallery map's locations.
        query_indices: gallery location of that cosine, 0..S-1.
        query_shares: contribution to the logit: weight x (cosine - cosine of an average location).
        gallery_cosines: largest cosine of each gallery location with the query map's locations.
        gallery_indices: query location of that cosine, 0..S-1.
        gallery_shares: contribution to the logit.
        constant: contribution of every pair. With all shares it sums to the logit.
    """

    query_cosines: NDArray[np.float32]
    query_indices: NDArray[np.int64]
    query_shares: NDArray[np.float32]
    gallery_cosines: NDArray[np.float32]
    gallery_indices: NDArray[np.int64]
    gallery_shares: NDArray[np.float32]
    constant: float


def best_partners(query_map: NDArray[np.float32], gallery_map: NDArray[np.float32], head: Head) -> BestPartners:
    """Split the logit of two maps [C, h, w] of unit length over C into the contributions of their locations."""
    cosines = query_map.reshape(len(query_map), -1).T @ gallery_map.reshape(len(gallery_map), -1)  # [S, S]
    query_cosines = cosines.max(axis=1)
    gallery_cosines = cosines.max(axis=0)
    return BestPartners(
        query_cosines,
        cosines.argmax(axis=1),
        head.query * (query_cosines - head.average),
        gallery_cosines,
        cosines.argmax(axis=0),
        head.gallery * (gallery_cosines - head.average),
        head.bias + head.average * float(head.query.sum() + head.gallery.sum()),
    )


def correspondences(
    query_map: NDArray[np.float32], gallery_map: NDArray[np.float32], head: Head, limit: int
) -> list[Correspondence]:
    """Find the correspondences of two maps [C, h, w] that change the logit most, in either direction.

    Args:
        query_map: of unit length over C.
        gallery_map: the same.
        head: the matcher as numbers.
        limit: largest number of correspondences.
    """
    _, height, width = query_map.shape
    partners = best_partners(query_map, gallery_map, head)
    locations = np.arange(len(partners.query_indices))
    query_locations = np.concatenate([locations, partners.gallery_indices])
    gallery_locations = np.concatenate([partners.query_indices, locations])
    best = np.concatenate([partners.query_cosines, partners.gallery_cosines])
    shares = np.concatenate([partners.query_shares, partners.gallery_shares])
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
