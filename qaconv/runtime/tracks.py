"""Score tracks by the scores of their crops: several sightings that a tracker took for one person on one camera.

Q and G sightings, of TQ and TG tracks.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def number_tracks(tracks: ArrayLike) -> Ints:
    """Number tracks from 0 in the order of their first sighting, [N].

    Args:
        tracks: name of each sighting's track, [N]; a sighting whose name is "" is a track of its own.

    Example:
        >>> number_tracks(["b", "a", "", "b", ""]).tolist()
        [0, 1, 2, 0, 3]
    """
    names = np.asarray(tracks, dtype=np.object_)
    numbers = pd.factorize(names)[0]
    alone = np.flatnonzero(names == "")
    numbers[alone] = len(names) + np.arange(len(alone))
    return pd.factorize(numbers)[0].astype(np.int64)


def first_sightings(numbers: Ints) -> Ints:
    """Return the position of each track's first sighting, [T].

    Args:
        numbers: of `number_tracks`, [N].
    """
    positions: Ints = np.unique(numbers, return_index=True)[1].astype(np.int64)
    return positions


def score_tracks(scores: ArrayLike, query_tracks: Ints, gallery_tracks: Ints) -> Floats:
    """Return the scores of all pairs of tracks, [TQ, TG].

    The score of two tracks is the mean, over the crops of both, of each crop's best score with a crop of the other
    track. So each view of a person is compared with the view that is most like it. docs/matching.md has the rules that
    this one was chosen among.

    Args:
        scores: of all pairs of sightings, on a scale on which a mean has a meaning, such as logits, [Q, G].
        query_tracks: of `number_tracks`, [Q].
        gallery_tracks: of `number_tracks`, [G].

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> score_tracks([[1.0, 5.0], [3.0, 2.0]], number_tracks(["a", "a"]), number_tracks(["b", "b"]))
        array([[4.]])
        >>> score_tracks([[1.0, 5.0], [3.0, 2.0]], number_tracks(["", ""]), number_tracks(["", ""]))
        array([[1., 5.],
               [3., 2.]])
    """
    table, rows, columns = _by_track(scores, query_tracks, gallery_tracks)
    best_of_rows = np.maximum.reduceat(table, columns.first, axis=1)
    forward = np.add.reduceat(best_of_rows, rows.first, axis=0) / rows.counts[:, None]
    best_of_columns = np.maximum.reduceat(table, rows.first, axis=0)
    backward = np.add.reduceat(best_of_columns, columns.first, axis=1) / columns.counts
    mean: Floats = (forward + backward) / 2
    return mean


def mean_scores(scores: ArrayLike, query_tracks: Ints, gallery_tracks: Ints) -> Floats:
    """Return the mean score of all pairs of crops of two tracks, [TQ, TG].

    Unlike `score_tracks` it is not raised by choosing the best crops, so that it stays on the scale of a pair's score.

    Args:
        scores: of all pairs of sightings, [Q, G].
        query_tracks: of `number_tracks`, [Q].
        gallery_tracks: of `number_tracks`, [G].

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> mean_scores([[1.0, 5.0], [3.0, 2.0]], number_tracks(["a", "a"]), number_tracks(["", ""]))
        array([[2. , 3.5]])
    """
    table, rows, columns = _by_track(scores, query_tracks, gallery_tracks)
    sums = np.add.reduceat(table, columns.first, axis=1)
    mean: Floats = np.add.reduceat(sums, rows.first, axis=0) / (rows.counts[:, None] * columns.counts)
    return mean


def rank_in_tracks(scores: ArrayLike, tracks: Ints, ids: ArrayLike) -> list[Ints]:
    """Return the positions of each track's sightings, the best first.

    Args:
        scores: of the sightings, [N].
        tracks: of `number_tracks`, [N].
        ids: of equal scores the lower id comes first, [N].

    Example:
        >>> rank_in_tracks([1.0, 2.0, 3.0], number_tracks(["a", "", "a"]), ids=[7, 8, 9])
        [array([2, 0]), array([1])]
    """
    order = np.lexsort((np.asarray(ids), -np.asarray(scores), tracks))
    first = np.unique(tracks[order], return_index=True)[1]
    return np.split(order, first[1:]) if len(order) else []


class _Groups(NamedTuple):
    """The sightings of one side, each track's together.

    Attributes:
        order: that puts them together, [N].
        first: where each track begins in that order, [T].
        counts: number of sightings of each track, [T].
    """

    order: Ints
    first: Ints
    counts: Ints


def _by_track(scores: ArrayLike, query_tracks: Ints, gallery_tracks: Ints) -> tuple[Floats, _Groups, _Groups]:
    """Put the sightings of each track together in a table of scores, and return it with the tracks of both sides."""
    table = np.asarray(scores, dtype=np.float64)
    if table.shape != (len(query_tracks), len(gallery_tracks)):
        raise ValueError(
            f"scores must have shape {(len(query_tracks), len(gallery_tracks))}, for {len(query_tracks)} query "
            f"sightings and {len(gallery_tracks)} gallery sightings, got {table.shape}"
        )
    rows, columns = _group(query_tracks), _group(gallery_tracks)
    return table[np.ix_(rows.order, columns.order)], rows, columns


def _group(numbers: Ints) -> _Groups:
    order = np.argsort(numbers, kind="stable")
    _, first, counts = np.unique(numbers[order], return_index=True, return_counts=True)
    return _Groups(order, first, counts)
