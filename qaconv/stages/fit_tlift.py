"""A deployment's sightings go in; its temporal profile comes out: the paper's parameters where its times allow it."""

import logging

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.manifest import JUNK, Manifest
from qaconv.stages.places import PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)


def fit_tlift(params: Params, deployment: str) -> None:
    """Writes artifacts/tlift/<deployment>.json.

    Raises:
        InputError: some images have a time and others have none.
    """
    frame = Manifest.load(PREPARED / deployment).frame
    seen = frame[frame["split"].isin(["query", "gallery"]) & (frame["pid"] != JUNK)]
    untimed = int(seen["time_s"].isna().sum())
    if 0 < untimed < len(seen):
        raise InputError(
            f"{PREPARED / deployment}: {untimed} of {len(seen)} sightings have no time; "
            "legal is a time for all or for none"
        )
    settings = params.evaluate.tlift
    profile = TLiftProfile(
        deployment=deployment,
        camids=tuple(sorted(int(camid) for camid in seen["camid"].unique())),
        tau_s=settings.tau_s,
        sigma_s=settings.sigma_s,
        top_k=settings.top_k,
        alpha=settings.alpha,
        active=untimed == 0,
        reason="the sightings have no times"
        if untimed
        else f"all {len(seen)} sightings have a time; the paper's parameters",
    )
    profile.save(TLIFT / f"{deployment}.json")
    log.info("%s: time is %s: %s", deployment, "used" if profile.active else "not used", profile.reason)
