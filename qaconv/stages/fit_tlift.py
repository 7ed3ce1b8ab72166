"""Fit each method's temporal profile of a target, without labels."""

import logging

from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.data.reviewed_pairs import load_reviewed_pairs
from qaconv.files import replacing_folder
from qaconv.identities import find_edges, identify, map_by_identities, may_map
from qaconv.matching.results import Matches
from qaconv.matching.target_profile import correct_by_answers, fit_target_profile
from qaconv.paths import PREPARED, TLIFT
from qaconv.tables import as_scores
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
            profile = fit_target_profile(matches, manifest, target)
            if may_map(profile, sightings):
                edges = find_edges(matches.neighbours, matches.neighbour_logits, sightings, profile)
                profile = map_by_identities(profile, identify(sightings, edges).identity, sightings, matches.logits)
            profile = correct_by_answers(profile, reviewed, sightings, matches)
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
