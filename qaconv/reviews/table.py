"""Write and read `data/reviews/<target>.csv`: the answers of people about pairs of a target's sightings.

Images are known by the sha256 of their files, so that a dataset's images are found, however the service numbers them.
"""

from pathlib import Path

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
ANSWERS = ("same", "different", "cannot tell")
PAIR = ["first_sha256", "second_sha256"]


def write_reviews(path: Path, reviews: pd.DataFrame) -> None:
    """Write the answers, a row for each, without half-written files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as unfinished:
        reviews[list(COLUMNS)].to_csv(unfinished, index=False, lineterminator="\n")


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
    if unknown := sorted(set(table["answer"].dropna()) - set(ANSWERS)) or table["answer"].isna().any():
        raise InputError(f"{path}: unknown answers {unknown}, allowed: {', '.join(ANSWERS)}")
    drawn = table["draw"].notna()
    if table.loc[~drawn, "stratum_pairs"].notna().any() or not (table.loc[drawn, "stratum_pairs"] >= 1).all():
        raise InputError(f"{path}: stratum_pairs must be at least 1 where draw is given, and empty elsewhere")
    return table


def drawn_pairs(reviews: pd.DataFrame) -> pd.DataFrame:
    """Return the answered pairs of the sample that has the most of them.

    Returns:
        A row for each pair that somebody could tell: first_sha256, second_sha256, version, probability, marked,
        stratum, stratum_pairs, weight, and same: the share of its reviewers who saw one person.
    """
    drawn = reviews[reviews["draw"].notna() & (reviews["answer"] != "cannot tell")]
    one = drawn["answer"] == "same"
    columns = ["version", "probability", "marked", "stratum", "stratum_pairs", "weight"]
    pairs = drawn.assign(same=one.astype(np.float64)).groupby(["draw", *PAIR], sort=True)
    table = pairs.agg({**dict.fromkeys(columns, "first"), "same": "mean"}).reset_index()
    if table.empty:
        return table
    return table[table["draw"] == table["draw"].value_counts().sort_index(ascending=False).idxmax()].reset_index(
        drop=True
    )
