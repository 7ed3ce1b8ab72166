"""Find companions by mutual exclusion: of two people whom one camera sees at about the same time, at most one matches.

People who walk together appear together on the next camera, so times cannot tell them from one person. But where two
sightings on one camera, seconds apart, look like two people, a third sighting elsewhere cannot show both.
N sightings, M pairs of sightings on two cameras.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.tlift.em import Mixture
from qaconv.tlift.pairs import Pairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WINDOW_S = 20.0  # between two sightings of people who walk together, or of one visit, at most
ALIKE = 0.2  # probability that two sightings on one camera show one person, below which they are of two


class SameCamera(NamedTuple):
    """Pairs of sightings on one camera.

    Attributes:
        one: number of a sighting, [S].
        other: of another, [S].
        probability: that they show one person, [S].
    """

    one: Ints
    other: Ints
    probability: Floats


def split_companions(
    mixture: Mixture, pairs: Pairs, likely: Floats, camids: Ints, times: Floats, same_camera: SameCamera
) -> tuple[Floats, Floats]:
    """Return the probability that each pair shows one person, and that it shows companions, [M] both.

    Args:
        mixture: fitted; its posterior is that a pair shows one person or companions.
        pairs: that it was fitted on.
        likely: probability that each pair shows one person, before others are excluded, [M].
        camids: [N].
        times: [N] seconds.
        same_camera: those that are not given show two people.
    """
    bounded = np.clip(likely, 1e-9, 1 - 1e-6)
    odds = bounded / (1 - bounded)
    near = np.abs(times[same_camera.one] - times[same_camera.other]) < WINDOW_S
    alike = _keys(*(end[near & (same_camera.probability >= ALIKE)] for end in same_camera[:2]), len(times))
    alike.sort()
    not_excluded = np.ones(len(pairs))
    for fixed, moving in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        not_excluded *= 1 - _strongest_rival(fixed, moving, odds, camids, times, alike)
    one_person = mixture.posterior * not_excluded
    return one_person, mixture.posterior - one_person


def _strongest_rival(fixed: Ints, moving: Ints, odds: Floats, camids: Ints, times: Floats, alike: Ints) -> Floats:
    """Return the probability that the fixed sighting matches another person near the moving one, [M].

    Of several rivals the likeliest counts, as the sightings of one visit are not independent.
    """
    order = np.lexsort((times[moving], camids[moving], fixed))
    ends, their_odds = moving[order], odds[order]
    place = fixed[order] * (1 + int(camids.max())) + camids[ends]
    rival = np.zeros(len(order))
    for step in range(1, len(order)):
        before, after = np.arange(len(order) - step), np.arange(step, len(order))
        near = (place[before] == place[after]) & (times[ends[after]] - times[ends[before]] < WINDOW_S)
        if not near.any():
            break
        before, after = before[near], after[near]
        keys = _keys(ends[before], ends[after], len(times))
        position = np.minimum(np.searchsorted(alike, keys), len(alike) - 1)
        differ = np.ones(len(keys), dtype=bool) if not len(alike) else alike[position] != keys
        before, after = before[differ], after[differ]
        total = 1 + their_odds[before] + their_odds[after]
        np.maximum.at(rival, before, their_odds[after] / total)
        np.maximum.at(rival, after, their_odds[before] / total)
    unsorted = np.empty(len(order))
    unsorted[order] = rival
    return unsorted


def _keys(one: Ints, other: Ints, count: int) -> Ints:
    """Return a number for each pair in any order."""
    return np.minimum(one, other) * count + np.maximum(one, other)
