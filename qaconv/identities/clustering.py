"""Stand-in of the branch `idn`: connected components above log odds 0."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qaconv.identities.graph import Edges
from qaconv.tlift import TLiftProfile


@dataclass(frozen=True)
class Identities:
    """Identities of sightings."""

    identity: NDArray[np.int64]
    probability: NDArray[np.float64]
    changes: pd.DataFrame


def identify(
    sightings: pd.DataFrame,
    edges: Edges,
    profile: TLiftProfile,
    *,
    known: NDArray[np.int64] | None = None,
    last: int = 0,
) -> Identities:
    """Number the connected components."""
    count = len(sightings)
    likely = edges.log_odds > 0
    pairs = (edges.first[likely], edges.second[likely])
    graph = coo_array((np.ones(likely.sum()), pairs), shape=(count, count))
    _, part = connected_components(graph, directed=False)
    identity = np.zeros(count, np.int64) if known is None else known.copy()
    for number in np.unique(part):
        rows = np.flatnonzero(part == number)
        if identity[rows].all():
            continue
        numbers = identity[rows][identity[rows] > 0]
        if not len(numbers):
            last += 1
        identity[rows] = numbers.min() if len(numbers) else last
    probability = np.full(count, 0.5)
    np.maximum.at(probability, edges.first, 1 / (1 + np.exp(-edges.log_odds)))
    np.maximum.at(probability, edges.second, 1 / (1 + np.exp(-edges.log_odds)))
    return Identities(identity, probability, pd.DataFrame({"kind": [], "identity": [], "other": []}))
