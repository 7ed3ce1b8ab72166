"""Companions and one person are kept apart where one camera shows two people who look different."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.synthetic.network import NetworkSettings, simulate
from qaconv.tlift import TLiftProfile, fit, fit_profile
from qaconv.tlift.companions import Companions, Likeness, split_companions
from qaconv.tlift.em import Mixture
from qaconv.tlift.pairs import Pairs, Returns

LOG_RATIOS = st.floats(-4, 4)
CAMIDS = np.array([0, 1, 1])
TIMES = np.array([0.0, 60.0, 63.0])


@given(st.floats(0, 1), LOG_RATIOS, st.floats(0, 0.2))
def test_the_usual_share_changes_no_ratio_and_no_share_changes_an_unknown_time(
    score: float, log_ratio: float, usual: float
) -> None:
    log_ratio = min(log_ratio, float(-np.log(max(usual, 1e-9))) - 0.01)  # chance with companions bounds it
    scores = np.array([score])
    assert np.isclose(Companions([0.0], [usual], usual)(scores, np.array([log_ratio]))[0], log_ratio)
    assert Companions([0.0], [0.9], usual)(scores, np.zeros(1))[0] == pytest.approx(0)


def test_a_fitting_time_counts_less_where_more_pairs_are_companions() -> None:
    companions = Companions([-2.0, 2.0], [0.01, 0.2], 0.01)
    low, middle, high = companions(expit(np.array([-3.0, 0.0, 3.0])), np.full(3, 3.0))
    assert low == pytest.approx(3.0) and high < middle < low
    assert companions(expit(np.array([3.0])), np.full(1, -3.0))[0] > -3.0  # and another time speaks less against it


def test_a_rounded_ratio_beyond_the_bound_that_companions_set_has_finite_log_odds() -> None:
    companions = Companions([0.0], [0.0], usual=0.01)
    ratios = companions(np.full(2, 0.5), np.log([99.9, 100.1]))
    assert np.isfinite(ratios).all() and ratios[0] <= ratios[1] + 1e-9


def split(between: float, times: NDArray[np.float64] = TIMES) -> NDArray[np.float64]:
    """Return the probabilities of a sighting with two on another camera, whose score with each other is `between`."""
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([0.9, 0.6]), np.array([True, False]))
    posterior = np.array([0.95, 0.8])
    mixture = cast(Mixture, SimpleNamespace(posterior=posterior))
    returns = Returns(np.array([1, 2]), np.array([2, 1]), np.array([between, between]))
    lowest = np.array([0.6, between, between])
    likeness = Likeness(returns, lowest, times, lambda score, gap: 10 * (score - 0.5) + 0 * gap)
    one_person, companion = split_companions(mixture, pairs, np.array([0.95, 0.8]), CAMIDS, times, likeness)
    assert (one_person + companion).tolist() == pytest.approx(posterior.tolist())
    return one_person


def test_of_two_sightings_that_differ_the_less_likely_one_loses_most_and_of_two_that_are_alike_none() -> None:
    first, second = split(between=0.1)
    assert 0.75 < first < 0.95 and second < 0.2
    assert split(between=0.9).tolist() == [0.95, 0.8]


def test_sightings_of_two_visits_do_not_exclude_each_other() -> None:
    assert split(between=0.1, times=np.array([0.0, 60.0, 600.0])).tolist() == [0.95, 0.8]


@pytest.fixture(scope="module")
def walks() -> pd.DataFrame:
    return simulate(NetworkSettings(seed=17, cameras=5, people=110))


@pytest.fixture(scope="module")
def table(walks: pd.DataFrame) -> NDArray[np.float64]:
    """Make up scores: looks depend on the side that a crop shows, and some crops show a part of a companion."""
    rng = np.random.default_rng(17)
    person, members = walks["person"].to_numpy(), walks.groupby("group")["person"]
    looks = rng.normal(size=(person.max() + 1, 24))
    companion = members.transform("min").where(person == members.transform("max"), members.transform("max")).to_numpy()
    shown = 0.6 * rng.random((len(walks), 1)) * (rng.random((len(walks), 1)) < 0.3)
    side = np.deg2rad(walks["view_deg"].to_numpy())[:, None]
    noise = 0.48 * rng.normal(size=(len(walks), 24))
    seen = np.hstack(
        [looks[person] * (1 - shown) + looks[companion] * shown + noise, 1.5 * np.cos(side), 1.5 * np.sin(side)]
    )
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    scores: NDArray[np.float64] = expit(12 * seen @ seen.T - 5)
    return scores


def test_companions_whose_crops_show_each_other_are_taken_for_one_person_less_often(
    walks: pd.DataFrame, table: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = walks["camera"].to_numpy(), walks["clock_s"].to_numpy()
    nearest = np.argsort(2 * np.eye(len(table)) - table, axis=1, kind="stable")[:, :60]
    apart = places[0][:, None] != places[0]
    same = walks["person"].to_numpy()[:, None] == walks["person"].to_numpy()

    def error() -> tuple[TLiftProfile, float]:
        """Return the profile, and by how much probabilities between 0.3 and 0.8 are too high."""
        profile = fit_profile(nearest, np.take_along_axis(table, nearest, axis=1), *places)
        stated = profile.probabilities(table, *places, *places)
        assert stated is not None
        middle = apart & (stated > 0.3) & (stated < 0.8)
        return profile, float(stated[middle].mean() - same[middle].mean())

    profile, with_exclusion = error()
    monkeypatch.setattr(fit, "exclude_companions", lambda odds, *_: odds)
    _, without = error()
    assert profile.match_odds and profile.match_odds.companions
    assert profile.match_odds.companions.share[-1] > 5 * profile.match_odds.companions.usual
    assert without > 0.2 and with_exclusion < 0.6 * without
