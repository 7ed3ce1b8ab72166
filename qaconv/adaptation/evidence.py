"""Judge a network's matches by times alone, on people that it was not trained on.

A match that is right has a usual time between its cameras, a wrong one any time. So times say how many of a network's
matches are right, if the network had no part in the transit times that they are compared with.
N sightings, K identities held out, M matches.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.adaptation.view import View
from qaconv.tlift.clock_checks import correct_times
from qaconv.tlift.pairs import cross_camera_pairs
from qaconv.tlift.transit import pair_numbers

ROUNDS = 100  # of expectation and maximisation
LARGEST = 20.0  # log ratio that counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def right_matches(view: View, ruler: View, held_out: Ints) -> Floats:
    """Return the expected number of right mutual best matches of each identity held out, by times alone, [K].

    Args:
        view: whose matches are judged.
        ruler: whose transit times they are compared with.
        held_out: number of each sighting's identity, from 0, and -1 where it is not held out, [N].
    """
    camid = view.sightings["camid"].to_numpy()
    times = view.sightings["time_s"].to_numpy(dtype=np.float64)
    pairs = cross_camera_pairs(view.matches.neighbours, expit(view.matches.neighbour_logits), camid)
    known = ~np.isnan(times[pairs.first]) & ~np.isnan(times[pairs.second])
    inside = (held_out[pairs.first] >= 0) | (held_out[pairs.second] >= 0)
    pairs = pairs.keep(pairs.mutual & known & inside)
    right = _posterior(_log_ratios(ruler, camid, times, pairs.first, pairs.second))
    both = (held_out[pairs.first] >= 0) & (held_out[pairs.second] >= 0)
    right[both] /= 2  # it counts at either end
    total = np.zeros(int(held_out.max(initial=-1)) + 1)
    for ends in (held_out[pairs.first], held_out[pairs.second]):
        np.add.at(total, ends[ends >= 0], right[ends >= 0])
    return total


def _log_ratios(ruler: View, camid: Ints, times: Floats, first: Ints, second: Ints) -> Floats:
    """Return the log of transit / chance of each match, [M]."""
    times = correct_times(ruler.profile.clocks, camid, times)
    numbers = pair_numbers(np.array(sorted(ruler.profile.camids)), camid[first], camid[second])
    log_ratios = np.zeros(len(first))
    for number in np.unique(numbers):
        rows = numbers == number
        log_ratios[rows] = ruler.profile.transit(int(number), times[second[rows]] - times[first[rows]])
    return log_ratios


def _posterior(log_ratios: Floats) -> Floats:
    """Return the probability of each match to be right, if an unknown share of all is, [M]."""
    ratios = np.exp(np.clip(log_ratios, -LARGEST, LARGEST))
    right = np.full(len(ratios), 0.5)
    for _ in range(ROUNDS):
        share = right.mean() if len(right) else 0.0
        right = share * ratios / (share * ratios + 1 - share)
    return right
