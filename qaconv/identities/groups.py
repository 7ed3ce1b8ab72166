"""Make the groups that clustering starts with: tracks, cut where the tracker went on with another person.

N sightings, T groups, E pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.identities.graph import LIMIT, Edges
from qaconv.runtime.tracks import number_tracks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SWITCH = -4.0  # mean log odds between the two parts of a track, below which they may show two people


@dataclass(frozen=True)
class Groups:
    """Sightings that show one person on one camera.

    Attributes:
        of_sighting: number of each sighting's group, from 0, [N].
        sizes: number of sightings of each group, [T].
    """

    of_sighting: Ints
    sizes: Ints

    def __len__(self) -> int:
        return len(self.sizes)


def find_groups(sightings: pd.DataFrame, edges: Edges) -> Groups:
    """Return each track as a group, or as two where the tracker may have switched; a sighting without a track is one.

    Clustering may join the two parts again.

    Args:
        sightings: time_s and track, [N].
        edges: pairs of them.
    """
    numbers = number_tracks(sightings["track"])
    after_switch = _find_switches(numbers, sightings["time_s"].to_numpy(dtype=np.float64), edges)
    _, of_sighting = np.unique(2 * numbers + after_switch, return_inverse=True)
    return Groups(of_sighting.astype(np.int64), np.bincount(of_sighting))


def _find_switches(tracks: Ints, times: Floats, edges: Edges) -> NDArray[np.bool_]:
    """Return whether a sighting comes after the place where its tracker may have switched, [N]; one place a track."""
    after_switch = np.zeros(len(tracks), dtype=bool)
    inside = np.flatnonzero(tracks[edges.first] == tracks[edges.second])
    order = np.lexsort((np.arange(len(tracks)), times, tracks))
    position = np.empty(len(tracks), dtype=np.int64)
    position[order] = np.arange(len(tracks))
    first_of_track = np.searchsorted(tracks[order], np.arange(tracks.max(initial=-1) + 2))
    by_track = inside[np.argsort(tracks[edges.first[inside]], kind="stable")]
    ends = np.searchsorted(tracks[edges.first[by_track]], np.arange(len(first_of_track)))
    for track in np.flatnonzero(np.diff(first_of_track) > 1):
        start, size = first_of_track[track], int(first_of_track[track + 1] - first_of_track[track])
        rows = by_track[ends[track] : ends[track + 1]]
        table = np.zeros((size, size))  # log odds + LIMIT
        ends_of_pair = np.sort([position[edges.first[rows]] - start, position[edges.second[rows]] - start], axis=0)
        table[tuple(ends_of_pair)] = edges.log_odds[rows] + LIMIT
        sums = np.array([table[:cut, cut:].sum() for cut in range(1, size)])
        means = sums / (np.arange(1, size) * np.arange(size - 1, 0, -1)) - LIMIT
        if means.min() < SWITCH:
            after_switch[order[start + 1 + int(means.argmin()) : start + size]] = True
    return after_switch
