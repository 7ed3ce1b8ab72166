"""Tell companions from one person by mutual exclusion.

People who walk together appear together on the next camera, so times cannot tell them from one person; and their crops
look more alike than those of strangers, as they show the same side and often parts of each other. But where two
sightings on one camera, seconds apart, look like two people, a third sighting elsewhere cannot show both.
N sightings, M pairs of sightings on two cameras, B bins of scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import logit

from qaconv.tlift.calibration import CLIP
from qaconv.tlift.em import Mixture, score_bins
from qaconv.tlift.pairs import Pairs, Returns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WINDOW_S = 20.0  # between two sightings of people who walk together, or of one visit, at most
ALIKE = 0.2  # probability that two sightings on one camera show one person, below which they are of two
LEAST_CHANCE = 1e-3  # of what chance is divided by: a profile's ratios are rounded, and near 1 / usual they may pass it
USUAL_PAIRS = 5.0  # pairs of two people in each bin that the usual share counts for


@dataclass(frozen=True)
class Companions:
    """Share of companions among pairs of two people, by score.

    Attributes:
        knots: logit of scores, ascending, [B].
        share: at the knots, linear between them and constant outside, ascending, [B].
        usual: share, whatever the score, that the chance of the transit times includes.
    """

    knots: Sequence[float]
    share: Sequence[float]
    usual: float

    def __call__(self, scores: Floats, log_ratios: Floats) -> Floats:
        """Return log ratios of transit to chance whose chance includes the companions of that score.

        With c the share, u the usual one and q the density of transit / that without companions, a ratio of
        q / (1 - u + u q) becomes q / (1 - c + c q).

        Example:
            >>> Companions([0.0], [0.5], usual=0.0)(np.array([0.9]), np.log([100.0, 1.0])).round(2)
            array([0.68, 0.  ])
        """
        share = np.interp(logit(np.clip(scores, CLIP, 1 - CLIP)), self.knots, self.share)
        chance = np.maximum(1 - share + np.exp(log_ratios) * (share - self.usual), LEAST_CHANCE)
        with_companions: Floats = log_ratios + np.log(1 - self.usual) - np.log(chance)
        return with_companions

    @classmethod
    def fit(cls, pairs: Pairs, one_person: Floats, companion: Floats, usual: float) -> "Companions":
        """Fit by isotonic regression over bins of scores.

        Args:
            pairs: of sightings.
            one_person: probability that each pair shows one person, [M].
            companion: that it shows companions, [M].
            usual: share, whatever the score.
        """
        bins = score_bins(pairs)
        counts = np.bincount(bins)
        two_people = np.bincount(bins, 1 - one_person)
        share = (np.bincount(bins, companion) + USUAL_PAIRS * usual) / (two_people + USUAL_PAIRS)
        rising = isotonic_regression(share, weights=two_people + 1, increasing=False).x  # the best scores come first
        knots = np.bincount(bins, logit(np.clip(pairs.score, CLIP, 1 - CLIP))) / counts
        knots, first = np.unique(np.round(knots, 6), return_index=True)
        return cls(knots.tolist(), np.round(rising[first], 6).tolist(), usual)


class Likeness:
    """Whether two sightings on one camera look like two people.

    Args:
        returns: neighbours on one camera.
        lowest: lowest score of each sighting's neighbours, inf where it has none, [N]; a pair of no neighbours has at
            most the lowest of either sighting.
        times: [N] seconds.
        log_odds: function of scores and of gaps in seconds that returns the log odds of pairs on one camera.
    """

    def __init__(
        self, returns: Returns, lowest: Floats, times: Floats, log_odds: Callable[[Floats, Floats], Floats]
    ) -> None:
        self._times, self._log_odds, self._lowest = times, log_odds, lowest
        close = returns.keep(np.abs(times[returns.other] - times[returns.one]) < WINDOW_S)
        self._keys, first = np.unique(_pair_keys(close.one, close.other, len(times)), return_index=True)
        self._scores = close.score[first]

    def differ(self, one: Ints, other: Ints) -> Bools:
        """Return whether the sightings of pairs on one camera are of two people, [S]."""
        scores = np.minimum(self._lowest[one], self._lowest[other])
        scores = np.where(np.isfinite(scores), scores, 1.0)
        if len(self._keys):
            keys = _pair_keys(one, other, len(self._times))
            position = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            scores = np.where(self._keys[position] == keys, self._scores[position], scores)
        different: Bools = self._log_odds(scores, self._times[other] - self._times[one]) < logit(ALIKE)
        return different


def split_companions(
    mixture: Mixture, pairs: Pairs, likely: Floats, camids: Ints, times: Floats, likeness: Likeness
) -> tuple[Floats, Floats]:
    """Return the probability that each pair shows one person, and that it shows companions, [M] both.

    Args:
        mixture: fitted; its posterior is that a pair shows one person or companions.
        pairs: that it was fitted on.
        likely: probability that each pair shows one person, before others are excluded, [M].
        camids: [N].
        times: [N] seconds.
        likeness: of sightings on one camera.
    """
    bounded = np.clip(likely, 1e-9, 1 - 1e-6)
    odds = bounded / (1 - bounded)
    not_excluded = np.ones(len(pairs))
    for fixed, moving in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        not_excluded *= 1 - _strongest_rival(fixed, moving, odds, camids, times, likeness)
    remaining = mixture.posterior * not_excluded
    bins = score_bins(pairs)
    tells_more = np.bincount(bins, remaining) < np.bincount(bins, likely)
    one_person = np.where(tells_more[bins], remaining, likely)
    return one_person, mixture.posterior - one_person


def _strongest_rival(
    fixed: Ints, moving: Ints, odds: Floats, camids: Ints, times: Floats, likeness: Likeness
) -> Floats:
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
        differ = likeness.differ(ends[before], ends[after])
        before, after = before[differ], after[differ]
        total = 1 + their_odds[before] + their_odds[after]
        np.maximum.at(rival, before, their_odds[after] / total)
        np.maximum.at(rival, after, their_odds[before] / total)
    unsorted = np.empty(len(order))
    unsorted[order] = rival
    return unsorted


def _pair_keys(one: Ints, other: Ints, count: int) -> Ints:
    """Return a number for each pair in any order."""
    return np.minimum(one, other) * count + np.maximum(one, other)
