import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.synthetic.network import NetworkSettings, build_network, simulate

SMALL = NetworkSettings(seed=4, cameras=6, people=2000)


@pytest.fixture(scope="module")
def sightings() -> pd.DataFrame:
    return simulate(SMALL)


def passes(sightings: pd.DataFrame) -> pd.DataFrame:
    """Return the first sighting of each pass."""
    return sightings.groupby(["person", "visit"], as_index=False).first()


def test_one_seed_gives_one_set_of_sightings(sightings: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(simulate(SMALL), sightings)
    assert not simulate(replace(SMALL, seed=5)).equals(sightings)


def test_a_million_sightings_on_fifty_cameras_take_less_than_a_minute() -> None:
    begin = time.monotonic()
    many = simulate(NetworkSettings(seed=1, cameras=50, people=70_000))
    assert len(many) > 1_000_000
    assert many["camera"].nunique() == 50
    assert time.monotonic() - begin < 60


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), cameras=st.integers(2, 12), people=st.integers(1, 60), days=st.integers(1, 6))
def test_nobody_is_seen_out_of_order_or_off_the_network(seed: int, cameras: int, people: int, days: int) -> None:
    network_settings = NetworkSettings(seed=seed, cameras=cameras, people=people, days=days)
    network, seen = build_network(network_settings), simulate(network_settings)
    assert seen.sort_values(["person", "time_s"], kind="stable").index.equals(seen.index)
    assert seen["camera"].between(0, cameras - 1).all()
    assert seen["day"].between(0, days - 1).all()
    assert (seen.groupby("person")["day"].nunique() == 1).all()
    assert seen["view_deg"].between(0, 360).all()
    assert (seen["clock_s"] > 0).all()
    steps = passes(seen)
    onward = steps[["person", "visit", "camera"]].merge(
        steps.assign(visit=steps["visit"] - 1)[["person", "visit", "camera"]], on=["person", "visit"]
    )
    assert (network.follows[onward["camera_x"], onward["camera_y"]] > 0).all()


@pytest.mark.parametrize(("cameras", "seed"), [(2, 1), (12, 683), (50, 477)])  # 12 and 50 lie in two clusters
def test_all_cameras_are_joined_by_ways_in_both_directions(cameras: int, seed: int) -> None:
    linked = build_network(NetworkSettings(seed=seed, cameras=cameras, people=1)).follows > 0
    np.testing.assert_array_equal(linked, linked.T)
    assert not linked.diagonal().any()
    assert (np.linalg.matrix_power(linked.astype(float) + np.eye(cameras), cameras) > 0).all()


def test_a_group_passes_each_camera_within_seconds(sightings: pd.DataFrame) -> None:
    sizes = sightings.groupby("group")["person"].nunique()
    assert sizes.max() == 5 and (sizes == 1).mean() > 0.5
    together = passes(sightings).groupby(["group", "visit"])
    assert (together["camera"].nunique() == 1).all()
    apart = together["time_s"].max() - together["time_s"].min()
    assert apart[together.size() > 1].quantile(0.95) < 10


def test_walking_times_are_those_of_the_directed_way() -> None:
    steady = replace(SMALL, dwell_share=0.0, missed=0.0, group_spread=0.0)
    network, steps = build_network(steady), passes(simulate(steady))
    onward = steps["person"].eq(steps["person"].shift(-1))
    ways = pd.DataFrame({"start": steps["camera"], "end": steps["camera"].shift(-1), "gap": -steps["time_s"].diff(-1)})
    gaps = ways[onward].groupby(["start", "end"])["gap"]
    medians = gaps.median()[gaps.size() > 100].reset_index()
    for start, end, gap in medians.itertuples(index=False):
        expected = network.walk_median[int(start), int(end)] + steady.pass_length
        assert gap == pytest.approx(expected, rel=0.08)
    finite = network.walk_median[np.isfinite(network.walk_median)]
    assert not np.allclose(network.walk_median, network.walk_median.T) and finite.min() > 10


def test_dwelling_makes_a_few_ways_much_longer() -> None:
    brisk, slow = (
        passes(simulate(replace(SMALL, dwell_share=share))).groupby("person")["time_s"].diff() for share in (0.0, 0.5)
    )
    assert slow.quantile(0.9) > brisk.quantile(0.9) + 60


@pytest.mark.parametrize("turn_back", [0.0, 1.0])
def test_who_turns_back_is_where_they_were_before(turn_back: float) -> None:
    steps = passes(simulate(replace(SMALL, turn_back=turn_back, missed=0.0)))
    later = steps["person"].eq(steps["person"].shift(2))
    assert (steps["camera"] == steps["camera"].shift(2))[later].mean() == turn_back


def test_who_turns_back_walks_out_of_the_view_the_way_they_came() -> None:
    seen = simulate(replace(SMALL, turn_back=1.0, missed=0.0))
    middle = seen[(seen["visit"] > 0) & (seen["visit"] < seen.groupby("person")["visit"].transform("max"))]
    views = middle.groupby(["person", "visit"])["view_deg"]
    turned = (views.last() - views.first()) % 360
    assert turned.median() == pytest.approx(180, abs=5)


def test_the_detector_misses_its_share_of_passes() -> None:
    kept = [len(passes(simulate(replace(SMALL, missed=missed)))) for missed in (0.0, 0.2)]
    rates = build_network(replace(SMALL, missed=0.2)).missed
    assert rates.min() >= 0.1 and rates.max() <= 0.3
    assert 1 - kept[1] / kept[0] == pytest.approx(rates.mean(), abs=0.04)


def test_each_camera_has_its_offset_and_drift(sightings: pd.DataFrame) -> None:
    network = build_network(SMALL)
    for camera in range(SMALL.cameras):
        rows = sightings[sightings["camera"] == camera]
        slope, start = np.polyfit(rows["time_s"], rows["clock_s"], 1)
        assert slope - 1 == pytest.approx(network.drift[camera], abs=1e-8)
        assert start == pytest.approx(network.offset[camera], abs=1e-3)
    assert np.abs(network.drift).max() <= 100e-6 and np.ptp(network.drift) > 0
    assert network.offset.min() >= 0 and network.offset.max() <= 600 and np.ptp(network.offset) > 60


def test_more_people_come_in_the_rush_hours() -> None:
    arrivals = simulate(SMALL).groupby("group")["time_s"].min() / SMALL.day_length
    rush = arrivals.between(0.45, 0.55).sum()
    assert rush > 2 * arrivals.between(0.28, 0.38).sum() > 0
