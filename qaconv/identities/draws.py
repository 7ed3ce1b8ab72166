"""Draw who may be on each sighting, given identities and the odds of pairs.

One draw joins identities that may show one person, and splits identities that may show two. What is counted over many
draws, such as people or journeys, has an interval. The constants were fitted on drawn sites (docs/identities.md).
N sightings, E pairs, K identities, P pairs of identities, D draws.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logit

from qaconv.identities.clustering import Identities, overlapping_tracks
from qaconv.identities.graph import LIMIT, Edges
from qaconv.runtime.tracks import number_tracks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Log odds that two identities are one person: a constant, and what counts for each unit of the mean log odds of their
# pairs, of the logarithm of the smaller one's sightings, and of the highest log odds of a pair.
JOIN = (0.58, 0.52, -2.08, 0.70)
# Log odds that an identity holds a second person: a constant, and what counts for the logarithm of its surplus people,
# and for the mean of that logarithm over all identities. A target's odds may be off as a whole, so it counts less.
SPLIT = (-1.66, 1.45, -0.83)
LEAST_SURPLUS = 0.01  # people, added to the surplus
SPLIT_NEW = 0.73  # share of these second people who have no other identity
SPREAD = 0.75  # standard deviation of an error that a target's log odds of all joins, and of all splits, have in common
LEAST = 1e-3  # probability below which two identities are never joined
DRAWS = (20, 200)  # fewest and most
DRAWN = 20_000_000  # sightings in all draws together, about


class Joins(NamedTuple):
    """Pairs of identities that may be one person: numbers from 0, and the log odds, [P] each."""

    one: Ints
    other: Ints
    log_odds: Floats


def draw_people(sightings: pd.DataFrame, identities: Identities, edges: Edges, *, seed: int = 0) -> NDArray[np.int32]:
    """Return the person on each sighting by draw, [D, N].

    Args:
        sightings: camid, time_s (NaN where unknown) and track ("" where there is none), [N].
        identities: of the sightings.
        edges: that they were grouped by.
        seed: of the draws. Default: 0.
    """
    _, group = np.unique(identities.identity, return_inverse=True)
    rng = np.random.default_rng(seed)
    joins = _find_joins(group, edges, sightings)
    splits = _Splits(group, number_tracks(sightings["track"]), edges)
    draws = int(np.clip(DRAWN // max(1, len(group)), *DRAWS))
    people = np.empty((draws, len(group)), dtype=np.int32)
    for row in people:
        person = _draw_joins(joins, splits.size, rng)
        row[:] = person[group]
        splits.draw(row, person, rng)
    return people


def _find_joins(group: Ints, edges: Edges, sightings: pd.DataFrame) -> Joins:
    """Return the pairs of identities with edges between them that may be one person: their tracks do not overlap."""
    size = np.bincount(group)
    first, second = group[edges.first], group[edges.second]
    between = first != second
    keys = np.minimum(first, second)[between] * len(size) + np.maximum(first, second)[between]
    pairs, position = np.unique(keys, return_inverse=True)
    log_odds = edges.log_odds[between]
    highest = np.full(len(pairs), -LIMIT)
    np.maximum.at(highest, position, log_odds)
    low, high = np.divmod(pairs, len(size))
    mean = np.bincount(position, log_odds + LIMIT, len(pairs)) / (size[low] * size[high]) - LIMIT
    smaller = np.minimum(size[low], size[high])
    joined = JOIN[0] + JOIN[1] * mean + JOIN[2] * np.log(smaller) + JOIN[3] * highest
    overlapping = overlapping_tracks(sightings, group, np.zeros_like(size))
    apart = [min(pair) * len(size) + max(pair) for pair in overlapping]
    kept = (joined > logit(LEAST)) & ~np.isin(pairs, apart)
    return Joins(low[kept], high[kept], joined[kept])


def _draw_joins(joins: Joins, size: Ints, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return the person of each identity, [K]."""
    shifted = joins.log_odds + rng.normal(0, SPREAD)
    drawn = rng.random(len(shifted)) < expit(shifted)
    ends = joins.one[drawn], joins.other[drawn]
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(len(size), len(size)))
    person: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return person


class _Splits:
    """The pairs within identities, and how likely each identity holds a second person.

    By Simpson's index of the mean probability of its pairs, an identity shows a number of people; what is above 1 is
    its surplus.

    Attributes:
        size: number of sightings of each identity, [K].
        log_odds: that an identity holds a second person, [K].
    """

    def __init__(self, group: Ints, track: Ints, edges: Edges) -> None:
        self.size = np.bincount(group)
        self._track = track
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
        several = self.size > 1
        logarithm = np.log(surplus + LEAST_SURPLUS)
        usual = logarithm[several].mean() if several.any() else 0.0
        self.log_odds = np.where(several, SPLIT[0] + SPLIT[1] * logarithm + SPLIT[2] * usual, -np.inf)
        order = np.argsort(group, kind="stable")
        self._members, self._first = order, np.searchsorted(group[order], np.arange(len(self.size) + 1))

    def draw(self, row: NDArray[np.int32], person: NDArray[np.int32], rng: np.random.Generator) -> None:
        """Give the second people of some identities numbers of their own, or those of other identities.

        A second person is drawn as one sighting, with the more probability the less it fits, and all that fit it better
        than the rest of their identity. The sightings of a track stay together: most of them decide.

        Args:
            row: person on each sighting, [N], changed.
            person: of each identity, [K].
            rng: source of all draws.
        """
        shifted = self.log_odds + rng.normal(0, SPREAD)
        people = int(person.max(initial=0)) + 1
        for number, identity in enumerate(np.flatnonzero(rng.random(len(shifted)) < expit(shifted))):
            members = self._members[self._first[identity] : self._first[identity + 1]]
            misfit = 1 - self._mean[members]
            pivot = rng.choice(members, p=misfit / misfit.sum())
            fits = slice(self._start[pivot], self._start[pivot + 1])
            closer = self._other[fits][self._likely[fits] > self._mean[self._other[fits]]]
            _, track = np.unique(self._track[members], return_inverse=True)
            moved = np.bincount(track, np.isin(members, closer)) > 0.5 * np.bincount(track)
            moved[track[members == pivot]] = True
            if moved.all():
                continue  # nobody else is left, as in an identity of one track
            leaving = members[moved[track]]
            is_new = rng.random() < SPLIT_NEW
            row[leaving] = people + number if is_new else rng.integers(people)
