from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from qaconv.identities.clocks import common_times
from qaconv.synthetic.network import NetworkSettings, simulate


def crossings(crops: pd.DataFrame, times: np.ndarray) -> set[tuple[int, int, int]]:
    """Return person and both passes of all passes that follow each other."""
    passes = crops.assign(at_s=times).groupby(["person", "visit"])["at_s"].min().reset_index()
    rows = passes.sort_values(["person", "at_s"])[["person", "visit"]].to_numpy().tolist()
    return {(one[0], one[1], other[1]) for one, other in pairwise(rows) if one[0] == other[0]}


@pytest.fixture(scope="module")
def crops() -> pd.DataFrame:
    return simulate(NetworkSettings(seed=509, cameras=4, people=100))


def in_step(crops: pd.DataFrame, column: str) -> np.ndarray:
    return common_times(crops["person"].to_numpy(), crops["camera"].to_numpy(), crops[column].to_numpy())


def test_clocks_that_are_minutes_apart_are_put_in_step(crops: pd.DataFrame) -> None:
    true = crossings(crops, crops["time_s"].to_numpy())
    as_shown = len(true & crossings(crops, crops["clock_s"].to_numpy())) / len(true)
    corrected = len(true & crossings(crops, in_step(crops, "clock_s"))) / len(true)
    assert as_shown < 0.5
    assert corrected > 0.75


def test_clocks_that_agree_keep_their_times(crops: pd.DataFrame) -> None:
    assert np.array_equal(in_step(crops, "time_s"), crops["time_s"])


def test_sightings_without_a_time_change_nothing(crops: pd.DataFrame) -> None:
    unknown = pd.concat([crops, crops.assign(clock_s=np.nan)], ignore_index=True)
    corrected = in_step(unknown, "clock_s")
    assert np.array_equal(corrected[: len(crops)], in_step(crops, "clock_s"))
    assert np.isnan(corrected[len(crops) :]).all()


@pytest.mark.parametrize("cameras", [[], [0, 0], [0, 1]])
def test_where_nobody_walks_the_times_stay(cameras: list[int]) -> None:
    times = np.arange(len(cameras), dtype=np.float64)
    assert np.array_equal(common_times(np.arange(len(cameras)), np.array(cameras, dtype=np.int64), times), times)
