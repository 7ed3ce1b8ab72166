"""Check what a temporal profile is fitted from, and return it as arrays.

N sightings, S pairs of them.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.times import check_seconds
from qaconv.tlift.probability import DrawnPairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def check_sightings(camids: ArrayLike, times: ArrayLike) -> tuple[Ints, Floats]:
    """Return cameras and times, both [N].

    Raises:
        ValueError: shapes do not fit, or a camera is not a whole number.
        InputError: a time cannot be seconds.
    """
    check_seconds("times", times)
    camid, time = whole_numbers("camids", camids), np.asarray(times, dtype=np.float64)
    if camid.ndim != 1 or time.shape != camid.shape:
        raise ValueError(f"camids and times must have shape [N], got {camid.shape} and {time.shape}")
    return camid, time


def check_pairs(name: str, one: ArrayLike, other: ArrayLike, scores: ArrayLike, sightings: int) -> DrawnPairs:
    """Return pairs of sightings with their scores.

    Raises:
        ValueError: shapes do not fit, a number is not that of a sighting, or a score is not in [0, 1].
    """
    ends = whole_numbers(name, one), whole_numbers(name, other)
    pairs = DrawnPairs(*ends, np.asarray(scores, dtype=np.float64))
    shapes = [part.shape for part in pairs]
    if pairs.score.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"{name} must be three arrays of shape [S], got {', '.join(map(str, shapes))}")
    for numbers in ends:
        check_range(name, numbers, sightings)
    check_scores(name, pairs.score)
    return pairs


def check_tracks(tracks: ArrayLike | None, sightings: int) -> NDArray[np.str_]:
    """Return the name of each sighting's track, [N]; "" without tracks.

    Raises:
        ValueError: shapes do not fit.
    """
    names = np.full(sightings, "") if tracks is None else np.asarray(tracks, dtype=np.str_)
    if names.shape != (sightings,):
        raise ValueError(f"tracks must have an entry for each of {sightings} sightings, got {names.shape}")
    return names


def whole_numbers(name: str, values: ArrayLike) -> Ints:
    """Return whole numbers.

    Raises:
        ValueError: some are not.
    """
    numbers = np.asarray(values)
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    if not np.array_equal(whole, numbers):
        raise ValueError(f"{name} must be whole numbers, got {numbers[whole != numbers][0]}")
    return whole


def check_scores(name: str, scores: Floats) -> None:
    """Check that scores are in [0, 1].

    Raises:
        ValueError: some are not.
    """
    inside = (scores >= 0) & (scores <= 1)
    if not inside.all():
        raise ValueError(f"{name} must be in [0, 1], got {int((~inside).sum())} that are not")


def check_range(name: str, numbers: Ints, sightings: int) -> None:
    """Check that numbers are those of sightings.

    Raises:
        ValueError: some are not.
    """
    outside = numbers[(numbers < 0) | (numbers >= sightings)]
    if len(outside):
        raise ValueError(f"{name} must be in 0..{sightings - 1}, got {outside[0]}")
