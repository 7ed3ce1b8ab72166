"""Collect the pairs of sightings on two cameras that may show one person.

N sightings, k neighbours, M pairs.
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


def cross_camera_pairs(indices: Ints, scores: Floats, camids: Ints) -> Pairs:
    """Pair each sighting with its neighbours on other cameras.

    Args:
        indices: [N, k].
        scores: [N, k], NaN where there is no neighbour.
        camids: [N].
    """
    count, width = indices.shape
    one = np.repeat(np.arange(count), width)
    other, score = indices.ravel(), scores.ravel()
    across = (camids[one] != camids[other]) & ~np.isnan(score)
    one, other, score = one[across], other[across], score[across]
    mutual = _mutual_best(one, other, score, camids)
    swapped = camids[one] > camids[other]
    first = np.where(swapped, other, one)
    second = np.where(swapped, one, other)
    _, kept = np.unique(first * count + second, return_index=True)
    return Pairs(first[kept], second[kept], score[kept], mutual[kept])


def _mutual_best(one: Ints, other: Ints, score: Floats, camids: Ints) -> Bools:
    """Whether `other` is the best match of `one` on its camera and the other way round, [M]."""
    cameras = int(camids.max()) + 1
    forward = one * cameras + camids[other]
    backward = other * cameras + camids[one]
    order = np.lexsort((other, -score, forward))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = np.diff(forward[order]) != 0
    best = np.full(len(camids) * cameras, -1)
    best[forward[order[leads]]] = other[order[leads]]
    mutual: Bools = (best[forward] == other) & (best[backward] == one)
    return mutual
