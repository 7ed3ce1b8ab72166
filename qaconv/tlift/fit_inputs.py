"""Check what a temporal profile is fitted from, and return it as arrays.

N sightings, k neighbours of each, S drawn pairs.
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
    camid, time = _whole_numbers("camids", camids), np.asarray(times, dtype=np.float64)
    if camid.ndim != 1 or time.shape != camid.shape:
        raise ValueError(f"camids and times must have shape [N], got {camid.shape} and {time.shape}")
    return camid, time


def check_neighbours(
    name: str, indices: ArrayLike, scores: ArrayLike, sightings: int, *, lacks: bool = False
) -> tuple[Ints, Floats]:
    """Return neighbours, both [N, k]; with `lacks` some have a score of NaN, and their indices become 0.

    Raises:
        ValueError: shapes do not fit, an index is not that of a sighting, or a score is not in [0, 1].
    """
    index, score = _whole_numbers(f"{name}_indices", indices), np.asarray(scores, dtype=np.float64)
    if index.ndim != 2 or index.shape != score.shape or len(index) != sightings:
        raise ValueError(
            f"{name}_indices and {name}_scores must have the same shape [{sightings}, k], as there are {sightings} "
            f"camids, got {index.shape} and {score.shape}"
        )
    is_missing = np.isnan(score) & lacks
    _check_scores(f"{name}_scores", score[~is_missing])
    _check_range(f"{name}_indices", index[~is_missing], sightings)
    return np.where(is_missing, 0, index), score


def check_drawn(one: ArrayLike, other: ArrayLike, scores: ArrayLike, sightings: int) -> DrawnPairs:
    """Return drawn pairs.

    Raises:
        ValueError: shapes do not fit, a number is not that of a sighting, or a score is not in [0, 1].
    """
    ends = _whole_numbers("drawn", one), _whole_numbers("drawn", other)
    pairs = DrawnPairs(*ends, np.asarray(scores, dtype=np.float64))
    shapes = [part.shape for part in pairs]
    if pairs.score.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"drawn must be three arrays of shape [S], got {', '.join(map(str, shapes))}")
    for numbers in ends:
        _check_range("drawn", numbers, sightings)
    _check_scores("drawn", pairs.score)
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


def _whole_numbers(name: str, values: ArrayLike) -> Ints:
    numbers = np.asarray(values)
    with np.errstate(invalid="ignore"):
        whole = numbers.astype(np.int64)
    if not np.array_equal(whole, numbers):
        raise ValueError(f"{name} must be whole numbers, got {numbers[whole != numbers][0]}")
    return whole


def _check_scores(name: str, scores: Floats) -> None:
    inside = (scores >= 0) & (scores <= 1)
    if not inside.all():
        raise ValueError(f"{name} must be in [0, 1], got {int((~inside).sum())} that are not")


def _check_range(name: str, numbers: Ints, sightings: int) -> None:
    outside = numbers[(numbers < 0) | (numbers >= sightings)]
    if len(outside):
        raise ValueError(f"{name} must be in 0..{sightings - 1}, got {outside[0]}")
