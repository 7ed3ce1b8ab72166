"""Map the probabilities that a profile states by the identities of its sightings, without labels.

N sightings: Q queries, then a gallery of G.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from qaconv.tables import Table, as_scores, row_blocks
from qaconv.tlift import TLiftProfile
from qaconv.tlift.odds_map import fit_odds_map

log = logging.getLogger(__name__)

TRACKED = 0.5  # least share of sightings with a track; without tracks identities may miss most matches (docs/tlift.md)
MOST_PAIRS = 10_000_000  # of queries and gallery images; of more, as many queries are drawn
BLOCK_PAIRS = 1 << 20  # that are read at a time
SEED = 0  # of the draw
CLIP = 1e-9  # probabilities are kept this far from 0 and 1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def may_map(profile: TLiftProfile, sightings: pd.DataFrame) -> bool:
    """Whether a target's identities are good enough to map what its profile states: its times count, and it is tracked.

    Args:
        profile: of the target.
        sightings: track of each, "" where there is none, [N].
    """
    return profile.match_odds is not None and bool((sightings["track"] != "").mean() >= TRACKED)


def map_by_identities(profile: TLiftProfile, identity: Ints, sightings: pd.DataFrame, logits: Table) -> TLiftProfile:
    """Map a profile's stated probabilities to the share of such pairs that are of one identity.

    The pairs are those that searches meet: of queries with gallery images on other cameras.

    Args:
        profile: of the target, whose probabilities are not mapped yet.
        identity: of each sighting, [N].
        sightings: split, camid, and time_s on the camera's clock in seconds, NaN where unknown, [N].
        logits: of the queries with the gallery, [Q, G].

    Returns:
        The profile as it is, where it has no match odds, or too few pairs are of one identity (`fit_odds_map`).
    """
    if profile.match_odds is None or not min(logits.shape):
        return profile
    is_query = (sightings["split"] == "query").to_numpy()
    query, gallery = (
        (sightings["camid"].to_numpy()[part], sightings["time_s"].to_numpy(np.float64)[part], identity[part])
        for part in (is_query, ~is_query)
    )
    drawn = np.random.default_rng(SEED).permutation(logits.shape[0])[: max(1, MOST_PAIRS // logits.shape[1])]
    stated = profile.stated(as_scores(logits), query[0], query[1], gallery[0], gallery[1])

    def pairs() -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
        for block in row_blocks((len(drawn), logits.shape[1]), BLOCK_PAIRS):
            rows = np.sort(drawn[block])
            across = query[0][rows, None] != gallery[0]
            log_odds = logit(np.clip(stated[rows][across], CLIP, 1 - CLIP))
            yield log_odds, (query[2][rows, None] == gallery[2])[across]

    fitted = fit_odds_map(pairs())
    if fitted is None:
        log.info("%s: too few pairs of one identity to map probabilities by", profile.target)
        return profile
    odds = profile.match_odds.mapped(fitted, lambda: (expit(fitted(log_odds)) for log_odds, _ in pairs()))
    return replace(profile, match_odds=odds)
