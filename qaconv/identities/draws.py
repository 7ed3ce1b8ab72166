"""Draw who may be on each sighting, given identities and the odds of pairs.

One draw joins identities that may show one person, and splits identities that may show two. Whatever is counted over
many draws, such as people or journeys, has an interval. How often two identities show one person, and one identity two,
was fitted on drawn sites (docs/identities.md), as was how far a target's odds may be off in all.
N sightings, E pairs, K identities, P pairs of identities, D draws.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logit

from qaconv.identities.clustering import Identities
from qaconv.identities.graph import LIMIT, Edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

JOIN = (3.17, 1.26, -1.71, 0.46)  # log odds that two identities are one person: constant, and by `_evidence`
JOIN_SPREAD = 0.6  # standard deviation of an error that all of a target's log odds of joins have in common
SPLIT = 0.5  # identities that hold a second person, for each of their surplus people by Simpson's index
SPLIT_NEW = 0.5  # share of these second people who have no other identity
SPLIT_SPREAD = 0.6  # standard deviation of an error that all of a target's log odds of splits have in common
LEAST = 1e-3  # probability below which two identities are never joined
DRAWS = (20, 200)  # fewest and most
DRAWN = 20_000_000  # sightings in all draws together, about


class Joins(NamedTuple):
    """Pairs of identities that may be one person: numbers from 0, and the log odds, [P] each."""

    one: Ints
    other: Ints
    log_odds: Floats


def draw_people(identities: Identities, edges: Edges, *, seed: int = 0) -> NDArray[np.int32]:
    """Return the person on each sighting by draw, [D, N].

    Args:
        identities: of the N sightings.
        edges: that they were grouped by.
        seed: of the draws. Default: 0.
    """
    _, group = np.unique(identities.identity, return_inverse=True)
    rng = np.random.default_rng(seed)
    joins = _find_joins(group, edges)
    splits = _Splits(group, edges)
    draws = int(np.clip(DRAWN // max(1, len(group)), *DRAWS))
    people = np.empty((draws, len(group)), dtype=np.int32)
    for row in people:
        person = _draw_joins(joins, splits.size, rng)
        row[:] = person[group]
        splits.draw(row, person, rng)
    return people


def _find_joins(group: Ints, edges: Edges) -> Joins:
    """Return the pairs of identities with edges between them."""
    size = np.bincount(group)
    first, second = group[edges.first], group[edges.second]
    between = first != second
    low, high = np.minimum(first, second)[between], np.maximum(first, second)[between]
    log_odds = edges.log_odds[between]
    order = np.lexsort((-log_odds, high, low))
    low, high, log_odds = low[order], high[order], log_odds[order]
    starts = np.flatnonzero(np.append(True, (low[1:] != low[:-1]) | (high[1:] != high[:-1]))[: len(low)])
    low, high = low[starts], high[starts]
    if not len(starts):
        return Joins(low, high, np.empty(0))
    mean = np.add.reduceat(log_odds + LIMIT, starts) / (size[low] * size[high]) - LIMIT
    smaller = np.minimum(size[low], size[high])
    joined = JOIN[0] + JOIN[1] * mean + JOIN[2] * np.log(smaller) + JOIN[3] * log_odds[starts]
    kept = joined > logit(LEAST)
    return Joins(low[kept], high[kept], joined[kept])


def _draw_joins(joins: Joins, size: Ints, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return the person of each identity, [K]."""
    shifted = joins.log_odds + rng.normal(0, JOIN_SPREAD)
    drawn = rng.random(len(shifted)) < expit(shifted)
    ends = joins.one[drawn], joins.other[drawn]
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(len(size), len(size)))
    person: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return person


class _Splits:
    """The pairs within identities, and how likely each identity holds a second person.

    Attributes:
        size: number of sightings of each identity, [K].
        log_odds: that an identity holds a second person, [K].
    """

    def __init__(self, group: Ints, edges: Edges) -> None:
        self.size = np.bincount(group)
        within = group[edges.first] == group[edges.second]
        one = np.concatenate([edges.first[within], edges.second[within]])
        other = np.concatenate([edges.second[within], edges.first[within]])
        likely = expit(np.tile(edges.log_odds[within], 2))
        order = np.argsort(one, kind="stable")
        self._other, self._likely = other[order], likely[order]
        self._start = np.searchsorted(one[order], np.arange(len(group) + 1))
        self._mean = np.bincount(one, likely, len(group)) / np.maximum(self.size[group] - 1, 1)
        same = np.bincount(group, self._mean * (self.size[group] - 1))
        surplus = self.size**2 / (self.size + same) - 1
        self.log_odds = logit(np.clip(SPLIT * surplus, 1e-9, 0.9))
        order = np.argsort(group, kind="stable")
        self._members, self._first = order, np.searchsorted(group[order], np.arange(len(self.size) + 1))

    def draw(self, row: NDArray[np.int32], person: NDArray[np.int32], rng: np.random.Generator) -> None:
        """Give the second people of some identities numbers of their own, or those of other identities.

        A second person is drawn as one sighting, with the more probability the less it fits, and all sightings that
        fit it better than the rest of their identity.

        Args:
            row: person on each sighting, [N], changed.
            person: of each identity, [K].
            rng: source of all draws.
        """
        shifted = self.log_odds + rng.normal(0, SPLIT_SPREAD)
        people = int(person.max(initial=0)) + 1
        for number, identity in enumerate(np.flatnonzero(rng.random(len(shifted)) < expit(shifted))):
            members = self._members[self._first[identity] : self._first[identity + 1]]
            misfit = 1 - self._mean[members]
            pivot = rng.choice(members, p=misfit / misfit.sum())
            fits = slice(self._start[pivot], self._start[pivot + 1])
            closer = self._other[fits][self._likely[fits] > self._mean[self._other[fits]]]
            is_new = rng.random() < SPLIT_NEW
            row[pivot] = row[closer] = people + number if is_new else rng.integers(people)
