"""What appearance says of a target's sightings and its temporal profiles go in; its metrics come out."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import METHODS, Params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.matching.results import Matches
from qaconv.metrics import Calibration
from qaconv.metrics.target_metrics import measure, write_measures
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile


def evaluate(params: Params, target: str) -> None:
    """Writes metrics/<target>.json and the tables beside it: each method, ranked four ways.

    Raises:
        InputError: the gallery holds nobody, no query has a true match, or a profile is of another model.
    """
    frame = Manifest.load(PREPARED / target).frame
    query, gallery = (frame[frame["split"] == split] for split in ("query", "gallery"))
    standing = (gallery["pid"] != JUNK).to_numpy()
    if query.empty or not standing.any():
        raise InputError(
            f"{PREPARED / target}: cannot be evaluated: it has {len(query)} query images and {standing.sum()} in "
            f"its gallery without junk (pid {JUNK}); legal is at least one of each"
        )
    measures = {}
    for method in METHODS:
        matches = Matches.load(target, method, params.evaluate.parts)
        profile = TLiftProfile.load(TLIFT / target / f"{method}.json", model=matches.model)
        fitted = load_network(MODELS / method)[1]["calibration"]
        rankings = _rankings(matches, standing, profile, query, gallery[standing])
        try:
            measures[method] = measure(rankings, query, gallery[standing], Calibration(**fitted) if fitted else None)
        except ValueError as error:
            raise InputError(f"{PREPARED / target}: cannot be evaluated: {error}") from error
    write_measures(target, measures, query, seed=params.seed)


def _rankings(
    matches: Matches, standing: NDArray[np.bool_], profile: TLiftProfile, query: pd.DataFrame, gallery: pd.DataFrame
) -> Iterator[tuple[str, NDArray]]:
    """Scores [Q, G] four ways, one at a time; time is left out where the profile says so."""
    logits, reranked = matches.logits[:, standing], matches.reranked_without_junk
    where_and_when = (query["camid"], query["time_s"], gallery["camid"], gallery["time_s"])
    yield "direct", logits
    yield "reranked", reranked
    yield "tlift", profile.lift(expit(logits.astype(np.float64)), *where_and_when, ranking="direct")
    yield "reranked_tlift", profile.lift(reranked, *where_and_when, ranking="reranked")
