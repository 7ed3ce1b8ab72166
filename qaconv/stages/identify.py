"""Group a target's sightings into identities, and estimate its people, their ways and stays. No pid is read."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.files import read_file, replacing_folder
from qaconv.identities import Edges, Identities, find_edges, find_edges_by_scores
from qaconv.identities import identify as group_sightings
from qaconv.identities.journeys import list_visits
from qaconv.identities.people import summarise
from qaconv.identities.quality import check_trust
from qaconv.identities.summary import Interval, Summary
from qaconv.matching.results import Matches
from qaconv.metrics import Calibration
from qaconv.models.description import read_trained
from qaconv.paths import IDENTITIES, MODELS, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)

TABLE, SUMMARY = "identities.parquet", "summary.json"
COLUMNS = ["image", "camid", "time_s", "track"]


def identify(params: Params, target: str, since: Path | None = None) -> None:
    """Write artifacts/identities/<target>: identities.parquet, visits.parquet, changes.csv and summary.json.

    Args:
        params: of the project.
        target: one of its targets.
        since: folder with an earlier result, which may be the one that is written. Its sightings keep their identities,
            except where a new sighting shows otherwise. Default: all sightings are grouped.

    Raises:
        InputError: the sightings have not been matched, or `since` holds no earlier result.
    """
    sightings = Manifest.load(PREPARED / target).sightings()
    method = params.registry.method
    matches = Matches.load(target, method)
    profile = TLiftProfile.load(TLIFT / target / f"{method}.json", model=matches.model)
    edges = _edges(target, method, sightings, matches, profile)
    known, last = _known(since, sightings) if since else (None, 0)
    found = group_sightings(sightings, edges, known=known, last=last)
    trust = None
    if profile.match_odds:
        trust = check_trust(sightings, matches.neighbours, matches.neighbour_logits, profile, matches.draw_pairs())
    table = sightings[COLUMNS].assign(identity=found.identity, probability=np.round(found.probability, 6))
    summary = summarise(sightings, found, edges, time_used=profile.match_odds is not None, trust=trust)
    with replacing_folder(IDENTITIES / target) as folder:
        table.to_parquet(folder / TABLE, index=False)
        list_visits(table).to_parquet(folder / "visits.parquet", index=False)
        found.changes.to_csv(folder / "changes.csv", index=False, lineterminator="\n")
        summary.save(folder / SUMMARY)
    _report(target, summary.people, found)


def _edges(target: str, method: str, sightings: pd.DataFrame, matches: Matches, profile: TLiftProfile) -> Edges:
    if profile.match_odds:
        return find_edges(matches.neighbours, matches.neighbour_logits, sightings, profile)
    fitted = read_trained(MODELS / method)["calibration"]
    if fitted is None:
        log.warning("%s: neither times nor a calibration of scores: each track is an identity of its own", target)
        return Edges.join([], [], [])
    calibration = Calibration(**fitted)
    log.info("%s: times are not used (%s); scores alone decide", target, profile.reason)
    log_ratios = calibration.scale * matches.neighbour_logits[:] + calibration.offset
    return find_edges_by_scores(matches.neighbours[:], log_ratios)


def _known(since: Path, sightings: pd.DataFrame) -> tuple[NDArray[np.int64], int]:
    """Return the identity of each sighting in an earlier result, 0 where it is new, and the largest number ever given.

    Raises:
        InputError: there is no earlier result, or it is of another target.
    """
    path = since / TABLE
    earlier = read_file(pd.read_parquet, path)
    if missing := [name for name in ("image", "identity") if name not in earlier.columns]:
        raise InputError(f"{path}: must have the columns image and identity, got none named {', '.join(missing)}")
    known = sightings["image"].map(earlier.set_index("image")["identity"])
    if known.isna().all() and len(earlier):
        raise InputError(f"{path}: must hold sightings of the target, got none of its {len(sightings)} images")
    return known.fillna(0).to_numpy(dtype=np.int64), Summary.load(since / SUMMARY).last_number


def _report(target: str, people: Interval, found: Identities) -> None:
    count = len(np.unique(found.identity))
    log.info(
        "%s: %d identities; %.0f people by estimate (%.0f to %.0f)",
        target,
        count,
        people.value,
        people.low,
        people.high,
    )
    if found.cut_tracks:
        names = ", ".join(found.cut_tracks[:5])
        log.info(
            "  %d tracks show two people: %s%s", len(found.cut_tracks), names, ", ..." * (len(found.cut_tracks) > 5)
        )
    for kind, identity, other in found.changes.itertuples(index=False):
        log.info("  %s", f"{other} is part of {identity} now" if kind == "merge" else f"{other} was part of {identity}")
