"""Fit each method's temporal profile of a target, without labels."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import load_reviewed_pairs, state_pairs
from qaconv.files import replacing_folder
from qaconv.matching.results import Matches
from qaconv.paths import PREPARED, TLIFT
from qaconv.reviews.recalibration import fit_recalibration
from qaconv.tables import as_scores, row_blocks
from qaconv.tlift import TLiftProfile, fit_profile
from qaconv.tlift.findings import Finding
from qaconv.tlift.fit import NO_TIMES
from qaconv.tlift.plots import draw_profile, draw_rank_changes

log = logging.getLogger(__name__)


def fit_tlift(params: Params, target: str) -> None:
    """Write artifacts/tlift/<target>/<method>.json, and pictures with their data next to it.

    Raises:
        InputError: the sightings have not been matched, or a file of answers cannot be used.
    """
    manifest = Manifest.load(PREPARED / target)
    sightings = manifest.sightings()
    query, gallery = (sightings[sightings["split"] == split] for split in ("query", "gallery"))
    has_times = bool(sightings["time_s"].notna().any())
    if not has_times:
        log.info("%s: %s", target, NO_TIMES)
    reviewed = load_reviewed_pairs(target, params.targets)
    with replacing_folder(TLIFT / target) as folder:
        for method in params.methods:
            matches = Matches.load(target, method)
            profile = fit_method(matches, manifest, target, reviewed)
            profile.save(folder / f"{method}.json")
            draw_profile(profile, folder, method)
            scores = as_scores(matches.logits)
            places = query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]
            draw_rank_changes(scores, profile.lifted(scores, *places), *places[:2], folder, method)
            if has_times:
                log.info("%s, %s: time is %s: %s", target, method, "used" if profile.active else "off", profile.reason)
            for finding in profile.findings:
                camera = manifest.cameras.get(finding.camid, str(finding.camid))
                log.info("  camera %s, %s: %s: %s", camera, finding.kind, finding.detail, finding.done)


def fit_method(matches: Matches, manifest: Manifest, target: str, reviewed: pd.DataFrame | None) -> TLiftProfile:
    """Fit the temporal profile of a method's matches.

    Args:
        matches: of the target's sightings.
        manifest: of the target.
        target: its name.
        reviewed: people's answers about drawn pairs, by which its match odds are corrected. None: there are none.
    """
    sightings = manifest.sightings()
    profile = fit_profile(
        matches.neighbours,
        expit(matches.neighbour_logits),
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
    if reviewed is not None and profile.match_odds:
        return _correct(profile, reviewed, sightings, matches)
    return profile


def _correct(profile: TLiftProfile, pairs: pd.DataFrame, sightings: pd.DataFrame, matches: Matches) -> TLiftProfile:
    """Correct a profile's match odds by people's answers about drawn pairs."""
    assert profile.match_odds
    stated = state_pairs(pairs, sightings, matches.neighbours, matches.neighbour_logits, profile)
    known = ~np.isnan(stated)
    line = fit_recalibration(stated[known], pairs["same"][known], pairs["weight"][known])
    query, gallery = (sightings[sightings["split"] == split] for split in ("query", "gallery"))
    query_camids, gallery_camids = query["camid"].to_numpy(), gallery["camid"].to_numpy()
    places = query_camids, query["time_s"], gallery_camids, gallery["time_s"]
    in_gallery = profile.stated(as_scores(matches.logits), *places)

    def corrected() -> Iterator[NDArray[np.float64]]:
        for rows in row_blocks(in_gallery.shape):
            yield line(in_gallery[rows][query_camids[rows, None] != gallery_camids])

    odds = profile.match_odds.corrected(line.scale, line.offset, corrected)
    log.info(
        "%s: %d answers correct log odds to %.2f times, %+.2f", profile.target, line.answers, line.scale, line.offset
    )
    return replace(profile, match_odds=odds)
