"""Judge a network's matches by times alone, on people that it was not trained on.

A right match has a usual time between its cameras, a wrong one any time. So times say how many matches are right, where
the network that made them had no part in the transit times that they are compared with.
N sightings, K identities held out, M matches.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.adaptation.view import View
from qaconv.metrics.bootstrap import CONFIDENCE, DRAWS, Estimate
from qaconv.tlift.clock_checks import correct_times
from qaconv.tlift.pairs import cross_camera_pairs
from qaconv.tlift.transit import pair_numbers

ROUNDS = 100  # of expectation and maximisation
LARGEST = 20.0  # log ratio that counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class HeldOutMatches(NamedTuple):
    """Mutual best matches on two cameras of the identities held out; one between two of them counts half for each.

    Attributes:
        right: expected number of right ones by times alone, [K].
        all: number of matches, [K].
    """

    right: Floats
    all: Floats

    @property
    def share(self) -> float:
        """Share of right ones; 0 without matches."""
        return float(self.right.sum() / self.all.sum()) if self.all.any() else 0.0


def judge_by_times(view: View, ruler: View, held_out: Ints) -> HeldOutMatches:
    """Estimate how many matches of people held out are right.

    Args:
        view: whose matches are judged.
        ruler: whose transit times they are compared with.
        held_out: number of each sighting's identity, from 0, and -1 where it is not held out, [N].
    """
    camid = view.sightings["camid"].to_numpy()
    times = correct_times(ruler.profile.clocks, camid, view.sightings["time_s"].to_numpy(dtype=np.float64))
    pairs = cross_camera_pairs(view.matches.neighbours, expit(view.matches.neighbour_logits), camid)
    gaps = times[pairs.second] - times[pairs.first]
    ends = held_out[pairs.first], held_out[pairs.second]
    judged = pairs.mutual & ~np.isnan(gaps) & (np.maximum(*ends) >= 0)
    first, second, gaps = pairs.first[judged], pairs.second[judged], gaps[judged]
    numbers = pair_numbers(np.array(sorted(ruler.profile.camids)), camid[first], camid[second])
    log_ratios = np.zeros(len(gaps))
    for number in np.unique(numbers):
        rows = numbers == number
        log_ratios[rows] = ruler.profile.transit(int(number), gaps[rows])
    right = _probability(log_ratios)
    weight = np.where(np.minimum(held_out[first], held_out[second]) >= 0, 0.5, 1.0)
    people = int(held_out.max(initial=-1)) + 1
    matches = HeldOutMatches(np.zeros(people), np.zeros(people))
    for end in (held_out[first], held_out[second]):
        known = end >= 0
        np.add.at(matches.right, end[known], (weight * right)[known])
        np.add.at(matches.all, end[known], weight[known])
    return matches


def share_difference(after: HeldOutMatches, before: HeldOutMatches, *, seed: int) -> Estimate:
    """Estimate the difference of two shares of right ones, with its interval by the bootstrap over people.

    Args:
        after: of the same people as `before`.
        before: what is subtracted.
        seed: of the bootstrap.
    """
    people = len(before.all)
    drawn = np.random.default_rng(seed).integers(people, size=(DRAWS, people))
    shares = [
        matches.right[drawn].sum(axis=1) / np.maximum(matches.all[drawn].sum(axis=1), 1) for matches in (after, before)
    ]
    low, high = np.quantile(shares[0] - shares[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(after.share - before.share, float(low), float(high), people)


def _probability(log_ratios: Floats) -> Floats:
    """Return the probability of each match to be right, if an unknown share of all is, [M]."""
    ratios = np.exp(np.clip(log_ratios, -LARGEST, LARGEST))
    right = np.full(len(ratios), 0.5)
    for _ in range(ROUNDS):
        share = right.mean() if len(right) else 0.0
        right = share * ratios / (share * ratios + 1 - share)
    return right
