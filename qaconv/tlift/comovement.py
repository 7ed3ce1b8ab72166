"""Measure co-movement: how often people who pass one camera together also pass the next one together.

M matches of sightings on two cameras, B bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)  # seconds between two people on the first camera
TOGETHER = 10.0  # seconds between two people on the second camera, at most
CONTROLS = 5  # permutations of the transit times
MAX_MATCHES = 20_000  # a larger number is sampled


@dataclass(frozen=True)
class CoMovement:
    """Share of pairs that the second camera sees within TOGETHER, by their time difference on the first.

    Attributes:
        edges: of the bins in seconds, [B + 1].
        pairs: number of pairs of matches, [B].
        together: share that stays together, [B]; 0 without pairs.
        control: the same with transit times permuted among the matches of two cameras, [B].
    """

    edges: tuple[float, ...]
    pairs: tuple[int, ...]
    together: tuple[float, ...]
    control: tuple[float, ...]


def measure_comovement(
    route: Ints, start: Floats, duration: Floats, person: Ints, rng: np.random.Generator
) -> CoMovement:
    """Compare companions with permuted transit times.

    Args:
        route: number of the pair of cameras of each match, [M].
        start: time on the first camera in seconds, [M].
        duration: transit time to the second camera in seconds, [M].
        person: equal for matches that may show one person, such as crops of one pass, [M].
        rng: of the sample and the permutations.
    """
    kept = np.sort(rng.permutation(len(start))[:MAX_MATCHES])
    order = kept[np.lexsort((duration[kept], start[kept], route[kept]))]
    route, start, duration, person = route[order], start[order], duration[order], person[order]
    one, other = _companions(route, start)
    differ = person[one] != person[other]
    one, other = one[differ], other[differ]
    bins = np.digitize(start[other] - start[one], EDGES[1:-1])
    count = np.bincount(bins, minlength=len(EDGES) - 1)

    def shares(durations: Floats) -> Floats:
        close = np.abs((start + durations)[one] - (start + durations)[other]) < TOGETHER
        share: Floats = np.bincount(bins, close, minlength=len(count)) / np.maximum(count, 1)
        return share

    control = np.mean([shares(_permuted(route, duration, rng)) for _ in range(CONTROLS)], axis=0)
    return CoMovement(EDGES, tuple(count.tolist()), _rounded(shares(duration)), _rounded(control))


def _companions(route: Ints, start: Floats) -> tuple[Ints, Ints]:
    """Pairs of matches of one route less than the last edge apart, each once; matches are sorted by route and time."""
    first_of_route = np.searchsorted(route, route)
    end = np.empty(len(start), dtype=np.int64)
    for first in np.unique(first_of_route):
        block = slice(first, first + int((first_of_route == first).sum()))
        end[block] = first + np.searchsorted(start[block], start[block] + EDGES[-1])
    lengths = end - np.arange(len(start)) - 1
    one = np.repeat(np.arange(len(start)), lengths)
    other = one + 1 + np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return one, other


def _permuted(route: Ints, duration: Floats, rng: np.random.Generator) -> Floats:
    shuffled = np.lexsort((rng.random(len(route)), route))
    permuted = np.empty_like(duration)
    permuted[np.argsort(route, kind="stable")] = duration[shuffled]
    return permuted


def _rounded(shares: Floats) -> tuple[float, ...]:
    return tuple(round(float(share), 4) for share in shares)
