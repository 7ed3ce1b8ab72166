"""Judge two networks' matches by people's answers about pairs of the target's sightings.

M sightings, n answered pairs.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.adaptation.outcome import Change
from qaconv.data.reviewed_pairs import state_pairs
from qaconv.matching.results import Matches
from qaconv.metrics.bootstrap import CONFIDENCE, DRAWS
from qaconv.tlift import TLiftProfile

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Marker(NamedTuple):
    """One network's scores of the target's pairs, and the profile that marks some of them as matches."""

    matches: Matches
    profile: TLiftProfile


def judge_by_answers(
    pairs: pd.DataFrame, sightings: pd.DataFrame, before: Marker, after: Marker, *, seed: int
) -> Change | None:
    """Compare the F1 of the marked matches, with the interval of the difference by the bootstrap over pairs.

    F1 is the harmonic mean of precision and recall. A pair counts for those that it was drawn for.

    Args:
        pairs: of `load_reviewed_pairs`, [n].
        sightings: camid and time_s, [M].
        before: of the network that the adaptation began with.
        after: of the adapted one.
        seed: of the bootstrap.

    Returns:
        None where a profile states no probabilities.
    """
    marked = [_marks(pairs, sightings, *each) for each in (before, after)]
    if marked[0] is None or marked[1] is None:
        return None
    weight = pairs["weight"].to_numpy(dtype=np.float64)
    same = pairs["same"].to_numpy(dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(DRAWS, len(pairs)))
    values = [float(_f1(weight, same, each)) for each in (marked[0], marked[1])]
    draws = [_f1(weight[drawn], same[drawn], each[drawn]) for each in (marked[0], marked[1])]
    low, high = np.quantile(draws[1] - draws[0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Change(before=values[0], after=values[1], low=float(low), high=float(high), count=len(pairs))


def _marks(pairs: pd.DataFrame, sightings: pd.DataFrame, matches: Matches, profile: TLiftProfile) -> Bools | None:
    """Return whether each pair is marked as a match, [n]."""
    if profile.match_odds is None:
        return None
    stated = state_pairs(pairs, sightings, matches.neighbours, matches.neighbour_logits, profile)
    marked: Bools = np.nan_to_num(stated) > profile.match_odds.threshold  # a pair of no neighbours is not
    return marked


def _f1(weight: Floats, same: Floats, marked: Bools) -> Floats:
    """Return F1 over the last axis; 0 without matches."""
    right = (weight * same * marked).sum(axis=-1)
    whole = (weight * marked).sum(axis=-1) + (weight * same).sum(axis=-1)
    f1: Floats = 2 * right / np.maximum(whole, np.finfo(np.float64).tiny)
    return f1
