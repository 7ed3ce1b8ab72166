"""Each sighting's nearest neighbours go in; pairs that may show one person on two cameras come out.

N sightings, k neighbours of each, M pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Two sightings on two cameras each, every pair once.

    Attributes:
        first: [M], the sighting on the camera with the lower number.
        second: [M], the other one.
        score: [M], what appearance says, in [0, 1].
        mutual: [M], whether each is the other's best match on its camera.
    """

    first: Ints
    second: Ints
    score: Floats
    mutual: Bools

    def __len__(self) -> int:
        return len(self.first)

    def keep(self, kept: Bools) -> "Pairs":
        """Some of them."""
        return Pairs(self.first[kept], self.second[kept], self.score[kept], self.mutual[kept])


def cross_camera_pairs(indices: Ints, scores: Floats, camids: Ints) -> Pairs:
    """The neighbours that another camera has seen.

    Args:
        indices: [N, k].
        scores: [N, k], NaN where there is no neighbour.
        camids: [N].
    """
    count, width = indices.shape
    one, other, score = np.repeat(np.arange(count), width), indices.ravel(), scores.ravel()
    across = (camids[one] != camids[other]) & ~np.isnan(score)
    one, other, score = one[across], other[across], score[across]
    mutual = _best_on_camera(one, other, score, camids)
    swapped = camids[one] > camids[other]
    first, second = np.where(swapped, other, one), np.where(swapped, one, other)
    _, kept = np.unique(first * count + second, return_index=True)
    return Pairs(first[kept], second[kept], score[kept], mutual[kept])


def _best_on_camera(one: Ints, other: Ints, score: Floats, camids: Ints) -> Bools:
    """[M]: whether `other` is the best of its camera for `one`, and the other way round."""
    cameras = int(camids.max()) + 1
    asked, answered = one * cameras + camids[other], other * cameras + camids[one]
    order = np.lexsort((other, -score, asked))
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = np.diff(asked[order]) != 0
    best = np.full(len(camids) * cameras, -1)
    best[asked[order[leads]]] = other[order[leads]]
    return (best[asked] == other) & (best[answered] == one)
