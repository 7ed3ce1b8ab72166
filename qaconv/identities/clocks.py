"""Put the clocks of the cameras in step, so that the sightings of a person can be put in order.

Clocks that are wrong by a constant change no score, but they change the order in which cameras seem to be passed.
Offsets are chosen that make people's ways between cameras short: the two directions of a way then take about as long.
N sightings, C cameras, W ways of people from one camera to another.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 20  # of least squares, of which the best counts
SHORTEST_S = 10.0  # of a way: shorter ones have no more weight


class Ways(NamedTuple):
    """Ways of people: both cameras, and the seconds between them on the cameras' clocks, [W] each."""

    start: Ints
    end: Ints
    gap_s: Floats


def common_times(identity: Ints, camid: Ints, time_s: Floats) -> Floats:
    """Return the times less the offset of each camera's clock, [N]; the times themselves where the clocks agree.

    Clocks agree where the offsets are no longer than a way between two cameras: more than that ways in one direction
    cannot account for. The order along a way that people walk in one direction only may be wrong.

    Args:
        identity: of each sighting, [N].
        camid: [N].
        time_s: on the camera's clock, in seconds, NaN where unknown, [N].
    """
    known = np.flatnonzero(np.isfinite(time_s))
    cameras, camera = np.unique(camid[known], return_inverse=True)
    identity, time = identity[known], time_s[known]
    offsets = _first_offsets(identity, camera, time, len(cameras))
    best, shortest, usual = offsets, np.inf, np.inf
    for _ in range(ROUNDS):
        ways = _ways(identity, camera, time, offsets)
        if not len(ways.gap_s):
            return time_s
        durations = np.abs(ways.gap_s - offsets[ways.end] + offsets[ways.start])
        if durations.sum() < shortest:
            best, shortest, usual = offsets, durations.sum(), np.median(durations)
        offsets = _solve(ways, np.maximum(durations, SHORTEST_S) ** -0.5, len(cameras))
    if np.sqrt((best**2).mean()) < usual:
        return time_s
    common = time_s.copy()
    common[known] -= best[camera]
    return common


def _first_offsets(identity: Ints, camera: Ints, time: Floats, cameras: int) -> Floats:
    """Return offsets by the median gap of the people that two cameras have seen, [C]."""
    people, person = np.unique(identity, return_inverse=True)
    total, count = np.zeros((2, len(people), cameras))
    np.add.at(total, (person, camera), time)
    np.add.at(count, (person, camera), 1)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    pairs = []
    for start, end in combinations(range(cameras), 2):
        gaps = mean[:, end] - mean[:, start]
        gaps = gaps[np.isfinite(gaps)]
        if len(gaps):
            pairs.append((start, end, np.median(gaps), len(gaps)))
    start, end, gap, weight = np.array(pairs).reshape(-1, 4).T
    return _solve(Ways(start.astype(np.int64), end.astype(np.int64), gap), weight, cameras)


def _ways(identity: Ints, camera: Ints, time: Floats, offsets: Floats) -> Ways:
    """Return the ways between sightings that are next to each other once the clocks have these offsets."""
    order = np.lexsort((time - offsets[camera], identity))
    before, after = order[:-1], order[1:]
    moved = (identity[before] == identity[after]) & (camera[before] != camera[after])
    before, after = before[moved], after[moved]
    return Ways(camera[before], camera[after], time[after] - time[before])


def _solve(ways: Ways, weights: Floats, cameras: int) -> Floats:
    """Return the offsets [C], of mean 0, with which the weighted squares of the durations are least."""
    normal = np.full((cameras, cameras), 1e-9)  # of cameras that no way joins, the offset becomes 0
    known = np.zeros(cameras)
    for camera, sign in ((ways.start, -1), (ways.end, 1)):
        np.add.at(normal, (camera, camera), weights)
        np.add.at(known, camera, sign * weights * ways.gap_s)
    np.add.at(normal, (ways.start, ways.end), -weights)
    np.add.at(normal, (ways.end, ways.start), -weights)
    return np.linalg.lstsq(normal, known, rcond=None)[0]
