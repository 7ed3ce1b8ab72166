"""A target's matches, cameras and times go in; each model's temporal profile comes out, fitted without a label."""

import logging

import numpy as np
from scipy.special import expit

from qaconv.config import METHODS, Params
from qaconv.data.manifest import Manifest
from qaconv.files import replacing_folder
from qaconv.matching.results import Matches
from qaconv.paths import PREPARED, TLIFT
from qaconv.tlift import fit
from qaconv.tlift.clock_checks import Finding
from qaconv.tlift.fit import NO_TIMES
from qaconv.tlift.plots import draw_profile, draw_rank_changes

log = logging.getLogger(__name__)


def fit_tlift(params: Params, target: str) -> None:
    """Writes artifacts/tlift/<target>/<method>.json, and pictures with their data beside it.

    Raises:
        InputError: the sightings have not been matched.
    """
    manifest = Manifest.load(PREPARED / target)
    sightings = manifest.sightings()
    timed = bool(sightings["time_s"].notna().any())
    if not timed:
        log.info("%s: %s", target, NO_TIMES)
    with replacing_folder(TLIFT / target) as beside:
        for method in METHODS:
            matches = Matches.load(target, method, params.evaluate.parts)
            profile = fit(
                matches.neighbours,
                expit(matches.neighbour_logits),
                sightings["camid"].to_numpy(),
                sightings["time_s"].to_numpy(),
                reranked=matches.nearest_reranked(),
                known=[Finding(**each) for each in manifest.clocks],
                target=target,
                model=matches.model,
            )
            profile.save(beside / f"{method}.json")
            draw_profile(profile, beside, method)
            asked, seen = (sightings[sightings["split"] == split] for split in ("query", "gallery"))
            scores = expit(matches.logits.astype(np.float64))
            lifted = profile.lift(scores, asked["camid"], asked["time_s"], seen["camid"], seen["time_s"])
            draw_rank_changes(scores, lifted, asked["camid"], asked["time_s"], beside, method)
            if timed:
                state = "used" if profile.active else "off"
                log.info("%s, %s: time is %s: %s", target, method, state, profile.reason)
            for finding in profile.findings:
                log.info("  camera %d, %s: %s: %s", finding.camid, finding.kind, finding.detail, finding.done)
