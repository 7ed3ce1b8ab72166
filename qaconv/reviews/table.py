"""Write and read `data/reviews/<target>.csv`: the answers of people about pairs of a target's sightings.

Images are known by the sha256 of their files, so that a dataset's images are found, however the service numbers them.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from qaconv.errors import InputError
from qaconv.files import replacing_file

# Columns of the file and their types. `weight` is the number of candidate pairs that a drawn pair stands for; it and
# the three columns before it are empty where the pair was not drawn.
COLUMNS = {
    "first_sha256": str,
    "second_sha256": str,
    "answer": str,
    "reviewer": str,
    "answered_s": float,
    "version": str,
    "score": float,
    "probability": float,
    "marked": bool,
    "disputed": bool,
    "source": str,
    "first": int,
    "second": int,
    "draw": float,
    "stratum": str,
    "stratum_pairs": float,
    "weight": float,
}
Verdict = Literal["same", "different", "cannot tell"]
PAIR = ["first_sha256", "second_sha256"]


def write_reviews(path: Path, reviews: pd.DataFrame) -> None:
    """Write the answers, a row for each, without half-written files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as unfinished:
        whole = reviews[list(COLUMNS)].astype({"draw": "Int64", "stratum_pairs": "Int64"})
        whole.to_csv(unfinished, index=False, lineterminator="\n")


def read_reviews(path: Path) -> pd.DataFrame:
    """Read the answers.

    Raises:
        InputError: the file is no table of answers, or a value is not allowed.
    """
    try:
        table = pd.read_csv(path, dtype={name: str for name, kind in COLUMNS.items() if kind is str})
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; `qaconv reviews` writes it") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise InputError(f"{path}: must have the columns {', '.join(missing)}; `qaconv reviews` writes it")
    for name, kind in COLUMNS.items():
        if kind is not str and not (pd.api.types.is_numeric_dtype(table[name]) or table[name].isna().all()):
            raise InputError(f"{path}: {name} must have numbers alone; `qaconv reviews` writes it")
    if unknown := sorted(set(table["answer"].fillna("")) - set(get_args(Verdict))):
        raise InputError(f"{path}: unknown answers {unknown}, allowed: {', '.join(get_args(Verdict))}")
    if not table[PAIR].apply(lambda column: column.str.fullmatch("[0-9a-f]{64}")).all(axis=None):
        raise InputError(f"{path}: first_sha256 and second_sha256 must be digests of 64 hexadecimal digits")
    drawn = table["draw"].notna()
    if table.loc[~drawn, "stratum_pairs"].notna().any() or not (table.loc[drawn, "stratum_pairs"] >= 1).all():
        raise InputError(f"{path}: stratum_pairs must be at least 1 where draw is given, and empty elsewhere")
    return table


def drawn_pairs(reviews: pd.DataFrame) -> pd.DataFrame:
    """Return the answered pairs of the sample that has the most of them, of several the newest.

    Returns:
        A row for each pair that somebody could tell: first_sha256, second_sha256, version, probability, marked,
        stratum, stratum_pairs, weight, and same: the share of its reviewers who saw one person.
    """
    drawn = reviews[reviews["draw"].notna() & (reviews["answer"] != "cannot tell")]
    same = (drawn["answer"] == "same").astype(np.float64)
    columns = ["version", "probability", "marked", "stratum", "stratum_pairs", "weight"]
    grouped = drawn.assign(same=same).groupby(["draw", *PAIR], sort=True)
    pairs = grouped.agg({**dict.fromkeys(columns, "first"), "same": "mean"}).reset_index()
    counts = pairs.groupby("draw").size()
    best = counts[counts == counts.max()].index.max()
    table: pd.DataFrame = pairs[pairs["draw"] == best]
    return table.drop(columns="draw").reset_index(drop=True)
