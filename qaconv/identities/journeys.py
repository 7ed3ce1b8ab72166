"""List the visits of people to cameras, count their ways between cameras, and measure how long they stay.

N sightings, V visits; D draws of who is on each sighting (`draws.py`).
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.identities.clocks import common_times
from qaconv.identities.summary import Dwell, Flow, Interval
from qaconv.tlift.fit import VISIT_SECONDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEED = 0  # of the bootstrap of visits, so that the same identities give the same figures


def list_visits(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each visit: sightings of one identity on one camera with no gap above VISIT_SECONDS.

    Visits are put in order by the times of clocks in step (`clocks.py`). Sightings without a time are one visit for
    each camera, after the others.

    Args:
        table: image, camid, time_s, identity and probability of each sighting, [N].

    Returns:
        identity, visit (from 0 for each identity), camid, from_s and to_s (on the camera's clock; NaN without times),
        sightings, and the image and probability of the most probable one, sorted by identity and visit, [V].
    """
    camid, time_s, identity = _columns(table)
    number = _number_visits(identity, camid, time_s, common_times(identity, camid, time_s))
    best = table.assign(number=number).sort_values(["number", "probability"], ascending=[True, False], kind="stable")
    visits = best.groupby("number").agg(
        identity=("identity", "first"),
        camid=("camid", "first"),
        from_s=("time_s", "min"),
        to_s=("time_s", "max"),
        sightings=("image", "size"),
        image=("image", "first"),
        probability=("probability", "first"),
    )
    visits.insert(1, "visit", visits.groupby("identity").cumcount())
    return visits.reset_index(drop=True)


def list_flows(table: pd.DataFrame, people: NDArray[np.int32]) -> tuple[Flow, ...]:
    """Count the ways of people from one camera to the next, by both cameras, the most frequent first.

    Args:
        table: camid, time_s and identity of each sighting, [N]; those without a time show no order.
        people: person on each sighting by draw, [D, N].
    """
    camid, time_s, identity = _columns(table)
    common_s = common_times(identity, camid, time_s)
    cameras = int(camid.max(initial=0)) + 1
    counts = _count_ways(identity, camid, time_s, common_s, cameras)
    draws = [_count_ways(person, camid, time_s, common_s, cameras) for person in people]
    flows = []
    for way in np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]:
        interval = Interval.around(float(counts[way]), [drawn[way] for drawn in draws])
        start, end = divmod(int(way), cameras)
        flows.append(
            Flow(from_camid=start, to_camid=end, journeys=int(counts[way]), low=interval.low, high=interval.high)
        )
    return tuple(flows)


def list_dwell(table: pd.DataFrame, people: NDArray[np.int32]) -> tuple[Dwell, ...]:
    """Measure the median length of the visits to each camera; visits with fewer than two times have no length.

    The interval takes into account who is on each sighting, and that the visits are a sample (bootstrap).

    Args:
        table: camid, time_s and identity of each sighting, [N].
        people: person on each sighting by draw, [D, N].
    """
    camid, time_s, identity = _columns(table)
    lengths = _lengths_by_camera(identity, camid, time_s)
    rng = np.random.default_rng(SEED)
    medians: dict[int, list[float]] = {camera: [] for camera in lengths}
    for person in people:
        for camera, drawn in _lengths_by_camera(person, camid, time_s).items():
            medians.setdefault(camera, []).append(float(np.median(rng.choice(drawn, len(drawn)))))
    dwell = []
    for camera, seconds in sorted(lengths.items()):
        interval = Interval.around(float(np.median(seconds)), medians[camera])
        dwell.append(
            Dwell(camid=camera, visits=len(seconds), median_s=interval.value, low_s=interval.low, high_s=interval.high)
        )
    return tuple(dwell)


def _columns(table: pd.DataFrame) -> tuple[Ints, Floats, Ints]:
    return table["camid"].to_numpy(), table["time_s"].to_numpy(np.float64), table["identity"].to_numpy()


def _number_visits(identity: Ints, camid: Ints, time_s: Floats, common_s: Floats) -> Ints:
    """Number the visit of each sighting by identity and start, [N]."""
    order = np.lexsort((time_s, camid, identity))
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = _differs(identity[order]) | _differs(camid[order]) | ~_is_near(time_s[order])
    visit = np.cumsum(starts) - 1
    first = order[starts]
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.lexsort((camid[first], common_s[first], identity[first]))] = np.arange(len(first))
    number = np.empty(len(order), dtype=np.int64)
    number[order] = rank[visit]
    return number


def _differs(values: Ints) -> Bools:
    differs: Bools = values[1:] != values[:-1]
    return differs


def _is_near(time_s: Floats) -> Bools:
    """Whether each but the first follows the one before within VISIT_SECONDS, or neither has a time."""
    unknown = np.isnan(time_s)
    near: Bools = (np.diff(time_s) <= VISIT_SECONDS) | (unknown[1:] & unknown[:-1])
    return near


def _count_ways(
    identity: Ints | NDArray[np.int32], camid: Ints, time_s: Floats, common_s: Floats, cameras: int
) -> Ints:
    """Count visits in a row of one identity, by start * cameras + end."""
    timed = np.flatnonzero(np.isfinite(time_s))
    number = _number_visits(identity[timed], camid[timed], time_s[timed], common_s[timed])
    _, first = np.unique(number, return_index=True)
    person, camera = identity[timed][first], camid[timed][first]
    moved = (person[1:] == person[:-1]) & (camera[1:] != camera[:-1])
    return np.bincount(camera[:-1][moved] * cameras + camera[1:][moved], minlength=cameras**2)


def _lengths_by_camera(identity: Ints | NDArray[np.int32], camid: Ints, time_s: Floats) -> dict[int, Floats]:
    """Return the length in seconds of each visit with at least two times, by camera."""
    timed = np.flatnonzero(np.isfinite(time_s))
    number = _number_visits(identity[timed], camid[timed], time_s[timed], time_s[timed])
    order = np.lexsort((time_s[timed], number))
    _, first, count = np.unique(number[order], return_index=True, return_counts=True)
    start, end = timed[order[first]], timed[order[first + count - 1]]
    start, end = start[count > 1], end[count > 1]
    seconds, camera = time_s[end] - time_s[start], camid[start]
    return {number: seconds[camera == number] for number in np.unique(camera).tolist()}
