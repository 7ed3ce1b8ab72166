"""Keep one sighting of each track, so that a person who is seen for long counts once.

N sightings, of which n are kept; k neighbours of each.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def middle_sightings(tracks: NDArray[np.str_], times: Floats) -> Ints:
    """Return the positions of the sightings to keep, ascending, [n]: those without a track, and each track's middle.

    Args:
        tracks: name of each sighting's track, "" where there is none, [N].
        times: [N] seconds, NaN where unknown; those come last.
    """
    alone = np.flatnonzero(tracks == "")
    tracked = np.flatnonzero(tracks != "")
    ordered = tracked[np.lexsort((times[tracked], tracks[tracked]))]
    _, first, counts = np.unique(tracks[ordered], return_index=True, return_counts=True)
    return np.sort(np.concatenate([alone, ordered[first + (counts - 1) // 2]]))


def neighbours_among(kept: Ints, indices: Ints, scores: Floats, missing: float) -> tuple[Ints, Floats]:
    """Return the neighbours of the kept sightings that are kept too, numbered among them, best first, [n, j].

    j is the most that any of them has. A sighting with fewer has itself as its further neighbours.

    Args:
        kept: positions of the kept sightings, ascending, [n].
        indices: neighbours of all sightings, best first, [N, k].
        scores: [N, k].
        missing: score of a sighting with itself.
    """
    position = np.full(len(indices), -1)
    position[kept] = np.arange(len(kept))
    neighbours, their_scores = position[indices[kept]], scores[kept]
    is_missing = neighbours < 0
    order = np.argsort(is_missing, axis=1, kind="stable")
    width = max(1, int((~is_missing).sum(axis=1).max(initial=0)))
    columns = order[:, :width]
    absent = np.take_along_axis(is_missing, columns, axis=1)
    itself = np.broadcast_to(np.arange(len(kept))[:, None], columns.shape)
    return (
        np.where(absent, itself, np.take_along_axis(neighbours, columns, axis=1)),
        np.where(absent, missing, np.take_along_axis(their_scores, columns, axis=1)),
    )
