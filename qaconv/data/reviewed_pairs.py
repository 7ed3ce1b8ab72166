"""Find the pairs of sightings that people have answered in a dataset, and what a profile states of them.

M sightings of the target, k neighbours of each, n answered pairs.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.data.fingerprints import load_fingerprinted
from qaconv.errors import InputError
from qaconv.paths import PREPARED, REVIEWS
from qaconv.reviews.table import PAIR, drawn_pairs, read_reviews
from qaconv.tables import Table
from qaconv.tlift import TLiftProfile
from qaconv.tlift.probability import GallerySize

log = logging.getLogger(__name__)

FEWEST = 30  # answered pairs: with fewer, whole strata may have no answer, and are unknown to the file


def load_reviewed_pairs(target: str, targets: Sequence[str]) -> pd.DataFrame | None:
    """Read the answered pairs of a target's sample, as positions among its sightings.

    Args:
        target: its name.
        targets: all targets, one of which every file of answers must be about.

    Returns:
        The columns first, second (positions), stated, marked, stratum, stratum_pairs, weight and same; None where fewer
        than FEWEST pairs are answered.

    Raises:
        InputError: a file is of no target or no table of answers, or the target has none of its images.
    """
    if strays := sorted(path.stem for path in REVIEWS.glob("*.csv") if path.stem not in targets):
        raise InputError(f"{REVIEWS / strays[0]}.csv: unknown target {strays[0]!r}, allowed: {', '.join(targets)}")
    path = REVIEWS / f"{target}.csv"
    if not path.is_file():
        return None
    pairs = drawn_pairs(read_reviews(path)).rename(columns={"probability": "stated"})
    frame = load_fingerprinted(target)
    digests = frame.loc[frame["split"] != "train", "sha256"].reset_index(drop=True)
    position = pd.Series(digests.index, index=digests).groupby(level=0).first()  # the first of equal files
    for name, column in zip(("first", "second"), PAIR, strict=True):
        pairs[name] = pairs[column].map(position)
    known = pairs.dropna(subset=["first", "second"]).astype({"first": np.int64, "second": np.int64})
    if len(pairs) and known.empty:
        raise InputError(f"{path}: must be about images of {PREPARED / target}, got none of them")
    if len(known) < len(pairs):
        log.warning("%s: %d of %d pairs have images that %s lacks", path, len(pairs) - len(known), len(pairs), target)
    if len(known) < FEWEST:
        log.warning("%s: %d answered pairs; estimates need at least %d", path, len(known), FEWEST)
        return None
    return known.reset_index(drop=True)


def state_pairs(
    pairs: pd.DataFrame,
    sightings: pd.DataFrame,
    neighbours: Table,
    neighbour_logits: Table,
    profile: TLiftProfile,
) -> NDArray[np.float64]:
    """Return the probability that a profile states for each pair, NaN for those of no neighbours, [n]."""
    camids, times = sightings["camid"].to_numpy(), sightings["time_s"].to_numpy(np.float64)
    gallery = GallerySize.measure(times)
    stated = np.full(len(pairs), np.nan)
    ends = pairs[["first", "second"]].to_numpy(dtype=np.int64)
    numbers, place = np.unique(ends, return_inverse=True)
    near, logits = neighbours[numbers], neighbour_logits[numbers]
    for row, (first, second) in enumerate(place.reshape(ends.shape)):
        for this, that in ((first, second), (second, first)):
            one, other = numbers[this], numbers[that]
            column = np.flatnonzero(near[this] == other)
            if len(column):
                score = expit(logits[this, column[:1]])[None]
                places = camids[[one]], times[[one]], camids[[other]], times[[other]]
                probabilities = profile.probabilities(score, *places, gallery=gallery)
                assert probabilities is not None
                stated[row] = probabilities[0, 0]
                break
    return stated
