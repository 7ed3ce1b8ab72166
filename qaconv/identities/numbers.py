"""Number identities so that a person keeps a number from run to run.

N sightings.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CHANGES = ["kind", "identity", "other"]


def keep_numbers(clusters: Ints, known: Ints, last: int) -> tuple[Ints, pd.DataFrame]:
    """Number clusters by the numbers that most of their sightings have had; others get new ones.

    Args:
        clusters: number of each sighting's cluster, [N].
        known: number of its identity before, 0 where it is new, [N].
        last: largest number that any identity has ever had.

    Returns:
        Numbers [N], and what became of known ones: `kind` "merge" (`other` is now part of `identity`) or "split"
        (`other` was part of `identity`).

    Example:
        >>> numbers, changes = keep_numbers(np.array([0, 0, 1, 2, 2]), np.array([3, 0, 3, 5, 4]), last=5)
        >>> numbers.tolist(), changes.to_numpy().tolist()
        ([3, 3, 6, 4, 4], [['split', 3, 6], ['merge', 4, 5]])
    """
    shared = pd.DataFrame({"cluster": clusters, "known": known, "row": np.arange(len(clusters))})
    shared = shared[shared["known"] > 0].groupby(["cluster", "known"])["row"].agg(["size", "min"]).reset_index()
    shared = shared.sort_values(["size", "known", "min"], ascending=[False, True, True])
    number_of: dict[int, int] = {}
    known_in: dict[int, list[int]] = {}
    kept: set[int] = set()
    for cluster, number in shared[["cluster", "known"]].to_numpy().tolist():
        known_in.setdefault(cluster, []).append(number)
        if cluster not in number_of and number not in kept:
            number_of[cluster] = number
            kept.add(number)
    for cluster in pd.unique(clusters).tolist():
        if cluster not in number_of:
            last += 1
            number_of[cluster] = last
    changes = []
    for cluster, before in known_in.items():
        number = number_of[cluster]
        if number not in before:
            changes.append(("split", before[0], number))
        changes += [("merge", number, other) for other in before if other != number and other not in kept]
    numbers = np.array([number_of[cluster] for cluster in clusters.tolist()], dtype=np.int64)
    return numbers, pd.DataFrame(changes, columns=CHANGES)
