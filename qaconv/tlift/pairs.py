"""Collect the pairs of sightings that may show one person.

N sightings, M pairs on two cameras, R neighbours on one camera.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Pairs of sightings on two cameras, each pair once.

    Attributes:
        first: sighting on the camera with the lower number, [M].
        second: the other sighting, [M].
        score: of the pair in [0, 1], [M].
        mutual: whether each is the other's best match on its camera, [M].
    """

    first: Ints
    second: Ints
    score: Floats
    mutual: Bools

    def __len__(self) -> int:
        return len(self.first)

    def keep(self, kept: Bools) -> "Pairs":
        """Return the pairs of a mask [M]."""
        return Pairs(self.first[kept], self.second[kept], self.score[kept], self.mutual[kept])


@dataclass(frozen=True)
class Returns:
    """Sightings and their neighbours on the same camera, in the order of the sightings.

    Attributes:
        one: a sighting, [R].
        other: its neighbour, [R].
        score: of the pair in [0, 1], [R].
    """

    one: Ints
    other: Ints
    score: Floats

    def keep(self, kept: Bools) -> "Returns":
        """Return the neighbours of a mask [R]."""
        return Returns(self.one[kept], self.other[kept], self.score[kept])


def best_on_camera(one: Ints, other: Ints, score: Floats, camids: Ints) -> Bools:
    """Whether `other` is the best match of `one` on its camera, [M].

    Args:
        one: sightings, all of whose neighbours on other cameras are here, [M].
        other: neighbours, [M].
        score: [M].
        camids: [N].
    """
    place = one * (1 + int(camids.max())) + camids[other]
    order = np.lexsort((other, -score, place))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = np.diff(place[order]) != 0
    best = np.zeros(len(order), dtype=bool)
    best[order[leads]] = True
    return best


def join_pairs(one: Ints, other: Ints, score: Floats, best: Bools, camids: Ints) -> Pairs:
    """Join sightings and neighbours on other cameras to pairs, each once, in ascending order of both numbers.

    Args:
        one: sightings, [M].
        other: their neighbours, [M].
        score: of the lower sighting's neighbour where both are each other's, [M].
        best: whether `other` is the best match of `one` on its camera, [M].
        camids: [N].
    """
    backward = camids[one] > camids[other]
    key = np.where(backward, other, one) * len(camids) + np.where(backward, one, other)
    order = np.lexsort((one, key))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = np.diff(key[order]) != 0
    pair = np.cumsum(leads) - 1
    best_of_first, best_of_second = np.zeros((2, int(leads.sum())), dtype=bool)
    best_of_first[pair[(best & ~backward)[order]]] = True
    best_of_second[pair[(best & backward)[order]]] = True
    kept = order[leads]
    first, second = np.divmod(key[kept], max(1, len(camids)))
    return Pairs(first, second, score[kept], best_of_first & best_of_second)
