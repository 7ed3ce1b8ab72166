"""Estimate by people's answers how many marked matches of a target without labels are right, for the present network.

M sightings of the target, k neighbours of each, n answered pairs.

The answers were given about the pairs of an earlier version's sample. The present network scores the same pairs, and
its profile states their probabilities: so another network has other figures from the same answers.
"""

import numpy as np
import pandas as pd

from qaconv.data.reviewed_pairs import state_pairs
from qaconv.metrics.estimates_file import ReviewedPairs
from qaconv.reviews.estimate import estimate_matches, group_cells
from qaconv.tables import Table
from qaconv.tlift import TLiftProfile


def estimate_reviewed(
    pairs: pd.DataFrame,
    sightings: pd.DataFrame,
    neighbours: Table,
    neighbour_logits: Table,
    profile: TLiftProfile,
) -> ReviewedPairs | None:
    """Estimate precision and recall of the matches that a profile marks; None where it states no probabilities.

    A pair that is in neither sighting's neighbours is not marked.

    Args:
        pairs: of `load_reviewed_pairs`, [n].
        sightings: camid and time_s, [M].
        neighbours: nearest other sightings of each, [M, k].
        neighbour_logits: logits with them, [M, k].
        profile: of the network.
    """
    if profile.match_odds is None:
        return None
    stated = state_pairs(pairs, sightings, neighbours, neighbour_logits, profile)
    unknown = np.isnan(stated)
    marked = np.where(unknown, False, stated > profile.match_odds.threshold)
    present = pairs.assign(stated=np.where(unknown, pairs["stated"], stated), marked=marked)
    made = estimate_matches(group_cells(present))
    precision, recall = made.precision, made.recall
    return ReviewedPairs(
        answered_pairs=made.answers,
        precision=precision.value if precision else None,
        precision_low=precision.low if precision else None,
        precision_high=precision.high if precision else None,
        recall=recall.value if recall else None,
        recall_low=recall.low if recall else None,
        recall_high=recall.high if recall else None,
    )
