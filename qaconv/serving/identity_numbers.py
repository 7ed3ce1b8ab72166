"""Compare the identities of sightings before and after an update. N sightings; 0 stands for no identity."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def keep_numbers(before: Ints, after: Ints, last: int) -> Ints:
    """Give each new identity the number of the old one that it shares most sightings with, [N].

    Each old number is given once, the largest overlap first. The others are numbered from `last` + 1.

    Args:
        before: old numbers, [N].
        after: new numbers, [N].
        last: largest number that was ever given.

    Example:
        >>> keep_numbers(np.array([4, 4, 4, 7, 0]), np.array([1, 1, 2, 2, 3]), 9).tolist()
        [4, 4, 7, 7, 10]
    """
    numbers: dict[int, int] = {}
    for old, new, _ in sorted(_overlaps(before, after), key=lambda pair: (-pair[2], pair[0], pair[1])):
        if old and new not in numbers and old not in numbers.values():
            numbers[new] = old
    _, first = np.unique(after, return_index=True)
    for new in after[np.sort(first)].tolist():
        if new not in numbers:
            last += 1
            numbers[new] = last
    return np.array([numbers[new] for new in after.tolist()], dtype=np.int64)


def list_changes(before: Ints, after: Ints) -> list[tuple[Literal["merge", "split"], int, int]]:
    """List merges, as (merge, identity, the other, which ended), and splits, as (split, identity, the other).

    Args:
        before: old numbers, [N].
        after: new numbers, [N].

    Example:
        >>> list_changes(np.array([1, 2, 3, 3]), np.array([1, 1, 3, 4]))
        [('merge', 1, 2), ('split', 3, 4)]
    """
    remaining = set(after.tolist())
    return [
        ("split", old, new) if old in remaining else ("merge", new, old)
        for old, new, _ in _overlaps(before, after)
        if old and old != new
    ]


def _overlaps(before: Ints, after: Ints) -> list[tuple[int, int, int]]:
    """Return old number, new number and the count of sightings that have both."""
    pairs, counts = np.unique(np.stack([before, after], axis=1), axis=0, return_counts=True)
    return [(old, new, count) for (old, new), count in zip(pairs.tolist(), counts.tolist(), strict=True)]
