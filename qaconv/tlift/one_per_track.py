"""Keep one sighting of each track, so that a person who is seen for long counts once.

N sightings, of which n are kept; k neighbours of each.
"""

import numpy as np
from numpy.typing import NDArray

from qaconv.tables import ComputedTable, Rows, Table

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


def neighbours_among(kept: Ints, indices: Table, scores: Table, missing: float) -> tuple[Table, Table]:
    """Return the neighbours of the kept sightings that are kept too, numbered among them, and their scores, [n, k].

    They are best first. A sighting with fewer than k has itself as its further neighbours. Rows are read when they are
    asked for.

    Args:
        kept: positions of the kept sightings, ascending, [n].
        indices: neighbours of all sightings, best first, [N, k].
        scores: [N, k].
        missing: score of a sighting with itself.
    """
    position = np.full(len(indices), -1)
    position[kept] = np.arange(len(kept))

    def read(rows: Rows) -> tuple[Ints, Floats]:
        numbers = np.arange(len(kept))[rows]
        neighbours, their_scores = position[indices[kept[numbers]]], scores[kept[numbers]]
        is_missing = neighbours < 0
        order = np.argsort(is_missing, axis=1, kind="stable")
        absent = np.take_along_axis(is_missing, order, axis=1)
        return (
            np.where(absent, numbers[:, None], np.take_along_axis(neighbours, order, axis=1)),
            np.where(absent, missing, np.take_along_axis(their_scores, order, axis=1)),
        )

    shape = (len(kept), indices.shape[1])
    return (
        ComputedTable(shape, np.dtype(np.int64), lambda rows: read(rows)[0]),
        ComputedTable(shape, np.dtype(np.float64), lambda rows: read(rows)[1]),
    )
