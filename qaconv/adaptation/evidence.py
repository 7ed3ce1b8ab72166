"""Judge a network's matches by times alone, on people that it was not trained on.

A right match has a usual time between its cameras, a wrong one any time. So times say how many matches are right, where
the network that made them had no part in the transit times that they are compared with.
N sightings, K identities held out, M matches.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.adaptation.view import View
from qaconv.metrics.bootstrap import CONFIDENCE, DRAWS, Estimate
from qaconv.tlift.clock_checks import correct_times
from qaconv.tlift.transit import pair_numbers

ROUNDS = 100  # of expectation and maximisation
LARGEST = 20.0  # log ratio that counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class HeldOutMatches(NamedTuple):
    """Best matches on each other camera of the sightings of identities held out.

    There are as many for every network, so that their share of right ones compares networks. Of mutual best matches a
    better network has fewer.

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
    one, other = best_matches(view, camid, np.flatnonzero(held_out >= 0))
    timed = ~np.isnan(times[one] + times[other])
    one, other = one[timed], other[timed]
    first, second = np.where(camid[one] < camid[other], (one, other), (other, one))  # as transits are kept
    gaps = times[second] - times[first]
    numbers = pair_numbers(np.array(sorted(ruler.profile.camids)), camid[first], camid[second])
    log_ratios = np.zeros(len(gaps))
    for number in np.unique(numbers):
        rows = numbers == number
        log_ratios[rows] = ruler.profile.transit(int(number), gaps[rows])
    people = int(held_out.max(initial=-1)) + 1
    right, all_matches = (
        np.bincount(held_out[one], weights, minlength=people).astype(np.float64)
        for weights in (_probability(log_ratios), None)
    )
    return HeldOutMatches(right, all_matches)


def best_matches(view: View, camid: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return sightings and their best match on each other camera that one of their neighbours is on, [M] each.

    Args:
        view: whose matches they are.
        camid: of each sighting, [N].
        rows: the sightings to return matches of.
    """
    neighbours, logits = view.matches.neighbours, view.matches.neighbour_logits
    one, other, logit = np.repeat(rows, neighbours.shape[1]), neighbours[rows].ravel(), logits[rows].ravel()
    kept = (camid[one] != camid[other]) & np.isfinite(logit)
    one, other, logit = one[kept], other[kept], logit[kept]
    order = np.lexsort((other, -logit, camid[other], one))  # of equal ones the first
    one, other = one[order], other[order]
    best = np.ones(len(one), dtype=bool)
    best[1:] = (np.diff(one) != 0) | (np.diff(camid[other]) != 0)
    return one[best], other[best]


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
