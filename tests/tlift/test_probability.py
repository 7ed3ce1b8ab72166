import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from qaconv.tlift import TLiftProfile
from qaconv.tlift.calibration import Calibration
from qaconv.tlift.companions import Companions
from qaconv.tlift.probability import MATCHES_RIGHT, GallerySize, MatchOdds
from tests.tlift.test_profile import profile, with_transit

ODDS = MatchOdds(Calibration([-4.0, 0.0, 4.0], [-8.0, -3.0, 4.0]), 0.75, sightings=100, span_s=600.0)
STATED = with_transit(match_odds=ODDS)
SMALL = GallerySize(10, 600.0)
TIMES = st.floats(-1000, 1000)


def state(score: float, gap: float, gallery: GallerySize = SMALL, stated: TLiftProfile = STATED) -> float:
    probabilities = stated.probabilities([[score]], [0], [0.0], [1], [gap], gallery=gallery)
    assert probabilities is not None
    return float(probabilities[0, 0])


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), TIMES | st.just(float("nan")))
def test_a_probability_is_in_0_to_1_and_never_falls_as_the_score_rises(scores: list[float], gap: float) -> None:
    lower, higher = (state(score, gap) for score in sorted(scores))
    assert 0 <= lower <= higher <= 1


@settings(max_examples=30)
@given(st.floats(0.01, 0.99), TIMES, st.integers(100, 10_000))
def test_a_denser_gallery_lowers_the_probability_and_a_longer_one_does_not(score: float, gap: float, more: int) -> None:
    before = state(score, gap, GallerySize(100, 600.0))
    assert state(score, gap, GallerySize(more + 1, 600.0)) < before
    assert np.isclose(state(score, gap, GallerySize(more, 600.0 * more / 100)), before)


def test_without_times_every_further_sighting_counts() -> None:
    short, long = (state(0.8, np.nan, GallerySize(1000, span)) for span in (600.0, 6000.0))
    assert short == long < state(0.8, np.nan, SMALL)


def test_the_walking_time_makes_a_match_more_likely_and_another_time_less() -> None:
    assert state(0.8, 60.0) > state(0.8, np.nan) > state(0.8, 500.0)


def test_on_the_query_s_own_camera_the_score_alone_counts() -> None:
    probabilities = STATED.probabilities([[0.8, 0.8]], [1], [0.0], [1, 1], [3.0, 400.0], gallery=SMALL)
    assert probabilities is not None and probabilities[0, 0] == probabilities[0, 1] == state(0.8, np.nan)


def test_a_query_without_time_needs_no_camera() -> None:
    probabilities = STATED.probabilities([[0.8]], [-1], [np.nan], [1], [60.0], gallery=SMALL)
    assert probabilities is not None and probabilities[0, 0] == state(0.8, np.nan)


def test_a_profile_without_odds_states_nothing() -> None:
    assert profile().probabilities([[0.8]], [0], [0.0], [1], [60.0]) is None


def test_a_saved_profile_states_the_same_and_a_file_from_before_states_nothing(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    STATED.save(path)
    assert TLiftProfile.load(path) == STATED
    content = json.loads(path.read_text())
    del content["match_odds"]
    path.write_text(json.dumps(content))
    assert TLiftProfile.load(path).match_odds is None


def test_a_sighting_at_a_camera_that_the_profile_lacks_counts_as_one_without_a_time() -> None:
    camids, times = STATED.leave_out_unknown([1, 9], [60.0, 60.0])
    probabilities = STATED.probabilities([[0.8, 0.8]], [0], [0.0], camids, times, gallery=SMALL)
    assert probabilities is not None
    assert probabilities[0].tolist() == [state(0.8, 60.0), state(0.8, np.nan)]


@settings(max_examples=20)
@given(st.floats(0.01, 0.99), TIMES, st.floats(0.1, 2), st.floats(-2, 2))
def test_answers_of_people_move_log_odds_on_a_line_and_the_threshold_with_them(
    score: float, gap: float, scale: float, offset: float
) -> None:
    pairs = expit(scale * np.linspace(-5, 5, 400) + offset)
    odds = ODDS.corrected((scale, offset), (scale, offset), lambda: [pairs])
    corrected = state(score, gap, stated=with_transit(match_odds=odds))
    assert np.isclose(corrected, expit(scale * logit(state(score, gap)) + offset), atol=1e-9)
    above = pairs[pairs >= odds.threshold - 1e-6]  # the threshold is rounded
    assert odds.threshold == 1 or above.mean() >= MATCHES_RIGHT - 1e-3


def test_the_time_between_two_sightings_on_one_camera_is_no_transit_of_companions() -> None:
    companions = Companions([0.0], [0.5], usual=0.0)
    with_companions = replace(ODDS, companions=companions)
    score, ratio, timed = np.array([0.8]), np.array([3.0]), np.array([True])
    on_one_camera = with_companions.log_odds(score, ratio, timed, SMALL, same_camera=timed)
    assert on_one_camera == ODDS.log_odds(score, ratio, timed, SMALL)
    assert with_companions.log_odds(score, ratio, timed, SMALL) < on_one_camera - 1


def test_the_share_of_companions_is_read_as_it_was_written(tmp_path: Path) -> None:
    stated = with_transit(match_odds=replace(ODDS, companions=Companions([-1.0, 1.0], [0.01, 0.125], 0.02)))
    stated.save(tmp_path / "profile.json")
    assert TLiftProfile.load(tmp_path / "profile.json") == stated


def test_corrected_odds_are_read_as_they_were_written_and_older_files_have_none(tmp_path: Path) -> None:
    corrected = with_transit(
        match_odds=ODDS.corrected((0.5, -1.0), (0.5, -1.0), lambda: [np.array([0.9]), np.array([0.99])])
    )
    corrected.save(tmp_path / "profile.json")
    assert TLiftProfile.load(tmp_path / "profile.json").match_odds == corrected.match_odds
    written = json.loads((tmp_path / "profile.json").read_text())
    del written["match_odds"]["scale"], written["match_odds"]["offset"]
    (tmp_path / "profile.json").write_text(json.dumps(written))
    odds = TLiftProfile.load(tmp_path / "profile.json").match_odds
    assert odds and (odds.scale, odds.offset) == (1.0, 0.0)
