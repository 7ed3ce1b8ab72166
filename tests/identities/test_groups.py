import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.identities import Edges
from qaconv.identities.graph import LIMIT
from qaconv.identities.groups import SWITCH, find_groups


def plain_groups(sightings: pd.DataFrame, log_odds: NDArray[np.float64]) -> set[frozenset[int]]:
    """Cut each track at its lowest mean over all pairs of two parts, where that is below SWITCH."""
    groups = []
    for name, track in sightings.groupby("track"):
        rows = track.sort_values("time_s", kind="stable").index.tolist()
        if name == "":
            groups += [[row] for row in rows]
            continue
        means = [log_odds[np.ix_(rows[:cut], rows[cut:])].mean() for cut in range(1, len(rows))]
        cut = 1 + int(np.argmin(np.round(means, 6))) if means and min(means) < SWITCH else len(rows)
        groups += [rows[:cut], rows[cut:]]
    return {frozenset(map(int, group)) for group in groups if len(group)}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_track_is_cut_once_where_the_mean_of_all_pairs_of_both_parts_is_lowest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.choice(["", "a", "b", "c"], 20)
    times = np.where(rng.random(20) < 0.2, np.nan, rng.integers(0, 9, 20))
    sightings = pd.DataFrame({"time_s": times, "track": names})
    first, second = np.triu_indices(20, 1)
    drawn = rng.uniform(-2 * LIMIT, LIMIT, len(first))
    edges = Edges.join(first, second, drawn)
    log_odds = np.full((20, 20), -LIMIT)
    log_odds[edges.first, edges.second] = log_odds[edges.second, edges.first] = edges.log_odds
    groups = find_groups(sightings, edges)
    parts = {frozenset(np.flatnonzero(groups == number).tolist()) for number in range(groups.max() + 1)}
    assert parts == plain_groups(sightings, log_odds)


def test_a_track_whose_pairs_are_all_missing_is_cut_behind_its_first_sighting() -> None:
    sightings = pd.DataFrame({"time_s": [3.0, 1.0, 2.0], "track": ["a", "a", "a"]})
    assert find_groups(sightings, Edges.join([], [], [])).tolist() == [1, 0, 1]
