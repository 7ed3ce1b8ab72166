import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from benchmarks.identities.networks import Network
from benchmarks.reviews import candidate_pairs, compare
from benchmarks.stated_by_identities import choose_threshold, fit_map, worst_tenth
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


def test_a_map_by_identities_corrects_probabilities_that_are_too_high() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(50_000)
    stated = 1 / (1 + np.exp(-logit(true) - 1))
    mapped = fit_map(stated, rng.random(len(true)) < true)
    assert np.abs(mapped(stated) - true).mean() < 0.03 < np.abs(stated - true).mean()
    assert worst_tenth(mapped(stated), rng.random(len(true)) < true) < 5


def test_the_threshold_leaves_the_expected_share_of_right_ones() -> None:
    probabilities = np.linspace(0, 1, 10_001)
    above = probabilities[probabilities >= choose_threshold(probabilities)]
    assert above.mean() == pytest.approx(0.935, abs=1e-3)
    assert choose_threshold(np.array([0.1, 0.2])) == 1
