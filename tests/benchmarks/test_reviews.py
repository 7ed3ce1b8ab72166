from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.identities.networks import Network
from benchmarks.reviews import candidate_pairs, compare
from benchmarks.stated_by_identities import compare as compare_mapped
from benchmarks.stated_by_identities import tenth_errors
from qaconv.metrics.marked import MarkedAnswers
from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.probability import MatchOdds
from qaconv.tlift.transit import TransitTable

PEOPLE, CAMERAS = 40, 3


@pytest.fixture
def network() -> Network:
    """Make a network of PEOPLE who are seen once on each of CAMERAS, and whose stated probabilities are true."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(PEOPLE), CAMERAS)
    table = {"person": person, "pid": person + 1, "split": "gallery", "time_s": rng.random(len(person)) * 1000}
    sightings = pd.DataFrame({**table, "camid": np.tile(np.arange(CAMERAS), PEOPLE), "track": ""})
    logits = np.where(person[:, None] == person, 3.0, -3.0) + rng.normal(0, 2, (len(person), len(person)))
    odds = MatchOdds(Calibration((-6.0, 6.0), (-13.1, 4.9)), threshold=0.8, sightings=len(person), span_s=1000.0)
    neutral = TransitTable(centres=(None,) * 3)
    profile = TLiftProfile(
        target="x", model="", camids=(0, 1, 2), active=True, reason="", transit=neutral, match_odds=odds
    )
    made = Network("x", sightings, logits.astype(np.float32))
    made.__dict__["profile"] = profile
    return made


def test_candidate_pairs_are_of_two_cameras_and_each_is_there_once(network: Network) -> None:
    pairs = candidate_pairs(network)
    on_two_cameras = PEOPLE**2 * CAMERAS * (CAMERAS - 1) // 2
    assert pairs["stated"].min() >= 0
    assert len(pairs) <= on_two_cameras
    assert pairs["same"].sum() == PEOPLE * CAMERAS * (CAMERAS - 1) // 2


def test_answers_narrow_the_interval_and_hold_the_truth(network: Network) -> None:
    for row in compare(network):
        assert row.width < 0.8
        assert row.held >= 15


def test_a_tenth_of_few_answers_does_not_count() -> None:
    table = pd.DataFrame({"probability": [0.1, 0.5, 0.9], "share": [0.2, 0.9, 0.85], "answers": [50, 49, 500]})
    assert tenth_errors(MarkedAnswers(0.8, 1, 1, 1, table)).round(6).tolist() == [10.0, 5.0]


def test_a_network_is_measured_with_and_without_its_tracks_as_fitted_and_as_mapped(network: Network) -> None:
    assert network.profile.match_odds
    high = replace(network.profile, match_odds=replace(network.profile.match_odds, offset=4.0))
    split = np.where(network.sightings["camid"] == 0, "query", "gallery")
    made = replace(network, name="made", sightings=network.sightings.assign(split=split))
    made.__dict__.update(fitted=high, mapped=network.profile)
    row = next(compare_mapped(made))
    assert (row.tracks, row.name) == ("yes", "made")
    worst_fitted, worst_mapped = row.figures()[0]
    assert worst_fitted > 30 > worst_mapped
