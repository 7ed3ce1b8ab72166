"""Gather what a report shows of the people of a target: when cameras saw them, and what is least certain."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from qaconv.data.manifest import is_labelled
from qaconv.errors import InputError
from qaconv.files import read_file
from qaconv.identities.graph import Edges, find_edges
from qaconv.identities.summary import Summary
from qaconv.identities.truth import Truth, measure_people
from qaconv.matching.results import Matches
from qaconv.metrics.clusters import shows_known_person
from qaconv.paths import IDENTITIES, PREPARED
from qaconv.report.content import Identity, People, Rows
from qaconv.report.examples import crop
from qaconv.tlift import TLiftProfile

STEPS = 48  # of the time span
IDENTITIES_SHOWN = 4
CROPS = 8  # of an identity: half of them the most certain


def gather_people(target: str, frame: pd.DataFrame, matches: Matches, profile: TLiftProfile) -> People:
    """Gather the people of a target.

    Args:
        target: name.
        frame: image, pid, camid, time_s and split of the sightings.
        matches: of the served method.
        profile: of the served method.

    Raises:
        InputError: the identities are missing, or of other sightings.
    """
    folder = IDENTITIES / target
    table: pd.DataFrame = read_file(pd.read_parquet, folder / "identities.parquet")
    if table["image"].tolist() != frame["image"].tolist():
        raise InputError(f"{folder}: holds identities of other images than {PREPARED / target}; run `dvc repro`")
    summary = Summary.load(folder / "summary.json")
    return People(
        summary=summary.model_dump(mode="json"),
        truth=asdict(_truth(table, frame, matches, profile)) if is_labelled(frame) else None,
        present=_present(table),
        uncertain=_uncertain(table, frame),
    )


def _truth(table: pd.DataFrame, frame: pd.DataFrame, matches: Matches, profile: TLiftProfile) -> Truth:
    """Return what labels say; of pairs only where the profile states their odds."""
    edges = Edges.join([], [], [])
    if profile.match_odds:
        edges = find_edges(matches.neighbours, matches.neighbour_logits, frame, profile)
    identity, camid, pid = table["identity"].to_numpy(), frame["camid"].to_numpy(), frame["pid"].to_numpy()
    return measure_people(identity, camid, pid, shows_known_person(frame), edges)


def _present(table: pd.DataFrame) -> Rows:
    """Count the identities that each camera saw in each step of the time span."""
    timed = table[table["time_s"].notna()]
    if timed.empty:
        return []
    first, last = timed["time_s"].min(), timed["time_s"].max()
    edges = np.linspace(first, max(last, first + 1), STEPS + 1)
    step = np.clip(np.searchsorted(edges, timed["time_s"], side="right") - 1, 0, STEPS - 1)
    counts = timed.assign(step=step).groupby(["camid", "step"])["identity"].nunique()
    return [
        {
            "camid": camid,
            "from_s": float(edges[step]),
            "to_s": float(edges[step + 1]),
            "identities": int(counts.get((camid, step), 0)),
        }
        for camid in sorted(timed["camid"].unique().tolist())
        for step in range(STEPS)
    ]


def _uncertain(table: pd.DataFrame, frame: pd.DataFrame) -> list[Identity]:
    """Return the identities of several sightings with the lowest mean probability, the lowest first."""
    groups = table.groupby("identity")["probability"].agg(["mean", "size"])
    lowest = groups[groups["size"] > 1].sort_values("mean", kind="stable").head(IDENTITIES_SHOWN)
    identities = []
    for number, mean, size in lowest.itertuples():
        members = table[table["identity"] == number]["probability"].sort_values(ascending=False, kind="stable")
        rows = members.index.tolist()
        if len(rows) > CROPS:
            rows = rows[: CROPS // 2] + rows[-CROPS // 2 :]
        crops = [crop(frame, row) for row in rows]
        identities.append(Identity(int(number), float(mean), int(size), crops, members[rows].tolist()))
    return identities
