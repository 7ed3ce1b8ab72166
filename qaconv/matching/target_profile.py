"""Fit the temporal profile of a target's matches, and correct its probabilities by people's answers."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import state_pairs
from qaconv.matching.results import Matches
from qaconv.reviews.recalibration import Recalibration, fit_recalibration
from qaconv.tables import as_scores, row_blocks
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.findings import Finding

log = logging.getLogger(__name__)


def fit_target_profile(matches: Matches, manifest: Manifest, target: str) -> TLiftProfile:
    """Fit the temporal profile of one network's matches. No pid has a part in it.

    Args:
        matches: of the target's sightings.
        manifest: of the target.
        target: its name.
    """
    sightings = manifest.sightings()
    return fit_profile(
        matches.neighbours,
        as_scores(matches.neighbour_logits),
        sightings["camid"].to_numpy(),
        sightings["time_s"].to_numpy(),
        reranked=matches.nearest_reranked(),
        drawn=matches.draw_pairs(),
        tracks=sightings["track"],
        known=[Finding(**finding) for finding in manifest.clocks],
        cameras=manifest.cameras,
        time_origin=manifest.time_origin,
        target=target,
        model=matches.model,
    )


def correct_by_answers(
    profile: TLiftProfile, pairs: pd.DataFrame | None, sightings: pd.DataFrame, matches: Matches
) -> TLiftProfile:
    """Correct a profile's match odds by people's answers about drawn pairs.

    Args:
        profile: fitted to the matches.
        pairs: of `load_reviewed_pairs`. None: there are none, and the profile stays as it is, as it does without odds.
        sightings: of the target, queries first.
        matches: of the sightings.
    """
    if pairs is None or profile.match_odds is None:
        return profile
    unmapped = replace(profile, match_odds=replace(profile.match_odds, by_identities=None))
    line, stated_line = (_fit_line(pairs, sightings, matches, stating) for stating in (unmapped, profile))
    query, gallery = (sightings[sightings["split"] == split] for split in ("query", "gallery"))
    query_camids, gallery_camids = query["camid"].to_numpy(), gallery["camid"].to_numpy()
    places = query_camids, query["time_s"], gallery_camids, gallery["time_s"]
    in_gallery = profile.stated(as_scores(matches.logits), *places)

    def corrected() -> Iterator[NDArray[np.float64]]:
        for rows in row_blocks(in_gallery.shape):
            yield stated_line(in_gallery[rows][query_camids[rows, None] != gallery_camids])

    odds = profile.match_odds.corrected((line.scale, line.offset), (stated_line.scale, stated_line.offset), corrected)
    log.info(
        "%s: %d answers correct stated log odds to %.2f times, %+.2f",
        profile.target,
        stated_line.answers,
        stated_line.scale,
        stated_line.offset,
    )
    return replace(profile, match_odds=odds)


def _fit_line(pairs: pd.DataFrame, sightings: pd.DataFrame, matches: Matches, profile: TLiftProfile) -> Recalibration:
    """Fit the line by which answers correct what a profile states."""
    stated = state_pairs(pairs, sightings, matches.neighbours, matches.neighbour_logits, profile)
    known = ~np.isnan(stated)
    return fit_recalibration(stated[known], pairs["same"][known], pairs["weight"][known])
