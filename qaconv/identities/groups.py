"""Make the groups that clustering starts with: tracks, cut where the tracker went on with another person.

N sightings, T groups, E pairs.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.identities.graph import LIMIT, Edges
from qaconv.runtime.tracks import number_tracks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SWITCH = -4.0  # mean log odds between the two parts of a track, below which they may show two people


def find_groups(sightings: pd.DataFrame, edges: Edges) -> Ints:
    """Return the number of each sighting's group, from 0, [N].

    A track is a group, or two where the tracker may have switched; a sighting without a track is one. Clustering may
    join the two parts again.

    Args:
        sightings: time_s and track, [N].
        edges: pairs of them.
    """
    tracks = number_tracks(sightings["track"])
    after_switch = _find_switches(tracks, sightings["time_s"].to_numpy(dtype=np.float64), edges)
    groups: Ints = np.unique(2 * tracks + after_switch, return_inverse=True)[1].astype(np.int64)
    return groups


def _find_switches(tracks: Ints, times: Floats, edges: Edges) -> NDArray[np.bool_]:
    """Return whether a sighting comes after the place where its tracker may have switched, [N]; one place a track.

    Places are numbered by the sighting that follows, in the order of tracks and of times.
    """
    rows = np.arange(len(tracks))
    order = np.lexsort((rows, times, tracks))
    position = np.empty(len(tracks), dtype=np.int64)
    position[order] = rows
    sizes = np.bincount(tracks)
    start = (np.cumsum(sizes) - sizes)[tracks[order]]
    before, after = rows - start, sizes[tracks[order]] - rows + start
    inside = tracks[edges.first] == tracks[edges.second]
    ends = np.sort([position[edges.first[inside]], position[edges.second[inside]]], axis=0)
    odds = edges.log_odds[inside] + LIMIT
    # A pair counts at the places from behind its first sighting up to its second; rounding makes equal sums equal.
    steps = np.zeros(len(tracks) + 1)
    np.add.at(steps, ends[0] + 1, odds)
    np.add.at(steps, ends[1] + 1, -odds)
    means = np.full(len(tracks), np.inf)  # nothing is before the first sighting of a track
    np.divide(np.cumsum(steps)[:-1].round(6), before * after, out=means, where=before > 0)
    means -= LIMIT
    least = np.lexsort((rows, means, tracks[order]))[np.cumsum(sizes) - sizes]  # of each track, the first of equals
    switched = means[least] < SWITCH
    after_switch = np.empty(len(tracks), dtype=bool)
    after_switch[order] = switched[tracks[order]] & (rows >= least[tracks[order]])
    return after_switch
