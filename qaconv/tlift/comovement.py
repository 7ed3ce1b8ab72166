"""Confident matches go in; how much more often than chance companions stay together on the next camera comes out.

M matches of sightings on two cameras.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)  # seconds between two people on the first camera
TOGETHER = 10.0  # seconds between them on the second camera
CONTROLS = 5  # permutations of the walks' durations
MOST_MATCHES = 20_000  # that are looked at


@dataclass(frozen=True)
class CoMovement:
    """By time between two people on one camera: how often the next camera sees them within TOGETHER.

    Attributes:
        edges: [B + 1] seconds.
        pairs: [B] pairs of matches that were looked at.
        together: [B] share that stays together; 0 where there are no pairs.
        control: [B] the same with the durations of walks permuted among the matches of two cameras.
    """

    edges: tuple[float, ...]
    pairs: tuple[int, ...]
    together: tuple[float, ...]
    control: tuple[float, ...]


def measure_comovement(route: Ints, at: Floats, duration: Floats, same: Ints, rng: np.random.Generator) -> CoMovement:
    """Counts companions.

    Args:
        route: [M], the two cameras of each match, as one number.
        at: [M] seconds, when the first camera saw it.
        duration: [M] seconds until the second camera saw it.
        same: [M], equal for matches that may show one person, such as crops of one pass.
        rng: permutes.
    """
    kept = np.sort(rng.permutation(len(at))[:MOST_MATCHES])
    order = kept[np.lexsort((duration[kept], at[kept], route[kept]))]
    route, at, duration, same = route[order], at[order], duration[order], same[order]
    one, other = _companions(route, at)
    differ = same[one] != same[other]
    one, other = one[differ], other[differ]
    bin_of = np.digitize(at[other] - at[one], EDGES[1:-1])
    count = np.bincount(bin_of, minlength=len(EDGES) - 1)

    def shares(durations: Floats) -> Floats:
        close = np.abs((at + durations)[one] - (at + durations)[other]) < TOGETHER
        return np.bincount(bin_of, close, minlength=len(count)) / np.maximum(count, 1)

    control = np.mean([shares(_permuted(route, duration, rng)) for _ in range(CONTROLS)], axis=0)
    return CoMovement(EDGES, tuple(count.tolist()), _rounded(shares(duration)), _rounded(control))


def _companions(route: Ints, at: Floats) -> tuple[Ints, Ints]:
    """Matches of one route less than the last edge apart; sorted by route and time, each pair once."""
    start = np.searchsorted(route, route)  # the first of its route
    end = np.empty(len(at), dtype=np.int64)
    for first in np.unique(start):
        block = slice(first, first + int((start == first).sum()))
        end[block] = first + np.searchsorted(at[block], at[block] + EDGES[-1])
    lengths = end - np.arange(len(at)) - 1
    one = np.repeat(np.arange(len(at)), lengths)
    other = one + 1 + np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return one, other


def _permuted(route: Ints, duration: Floats, rng: np.random.Generator) -> Floats:
    shuffled = np.lexsort((rng.random(len(route)), route))
    permuted = np.empty_like(duration)
    permuted[np.argsort(route, kind="stable")] = duration[shuffled]
    return permuted


def _rounded(shares: Floats) -> tuple[float, ...]:
    return tuple(round(float(share), 4) for share in shares)
