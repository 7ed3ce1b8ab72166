import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from qaconv.metrics import Calibration, fit_calibration, measure_reliability
from qaconv.metrics.sightings import PairScores


def logits_of(scale, offset, seed, count=40_000):
    """Pairs whose log-odds at even odds are scale * logit + offset: as many of one person as of two."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-offset / scale, 2 / scale, count)
    match = rng.random(count) < expit(scale * logits + offset)
    return logits[match], logits[~match]


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.2, 1.5), (3.0, -4.0)])
def test_the_fit_finds_the_line_that_made_the_pairs(scale, offset) -> None:
    found = fit_calibration(*logits_of(scale, offset, seed=1))
    assert (found.scale, found.offset) == (pytest.approx(scale, rel=0.05), pytest.approx(offset, abs=0.1))


def test_how_many_pairs_there_are_of_each_kind_does_not_move_the_fit() -> None:
    match, other = logits_of(1.0, 0.5, seed=2)
    few = fit_calibration(match, other)
    many = fit_calibration(match, np.tile(other, 5))
    assert (many.scale, many.offset) == (pytest.approx(few.scale, rel=1e-2), pytest.approx(few.offset, abs=1e-2))


def test_pairs_told_apart_without_error_give_a_finite_scale() -> None:
    found = fit_calibration(np.array([5.0, 6.0]), np.array([-5.0, -6.0]))
    assert 0 < found.scale < 10
    assert 0.5 < found.probability(5.5) < 1


def test_scores_that_say_the_opposite_are_given_no_weight_rather_than_a_negative_one() -> None:
    assert fit_calibration(np.array([-2.0, -1.0]), np.array([1.0, 2.0])).scale == 0


@given(st.floats(0.01, 0.99), st.floats(-20, 20))
def test_a_prior_moves_the_odds_by_its_own(prior, logit) -> None:
    calibration = Calibration(scale=0.5, offset=-1, matches=1, others=1)
    even, moved = calibration.probability(logit), calibration.probability(logit, prior=prior)
    assert moved / (1 - moved) == pytest.approx(even / (1 - even) * prior / (1 - prior), rel=1e-6)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_prior_that_leaves_no_doubt_is_refused(prior) -> None:
    with pytest.raises(ValueError, match="prior must be in"):
        Calibration(1, 0, 1, 1).probability(0.0, prior=prior)


def test_the_right_calibration_has_next_to_no_error_and_an_overconfident_one_has() -> None:
    match, other = logits_of(1.0, 0.5, seed=3)
    right = measure_reliability(Calibration(1.0, 0.5, 1, 1), [PairScores(match, other)])
    overconfident = measure_reliability(Calibration(5.0, 2.5, 1, 1), [PairScores(match, other)])
    assert right.error < 0.02 < 0.1 < overconfident.error


def test_reliability_is_that_of_a_plain_loop_over_bins_however_the_pairs_are_cut() -> None:
    match, other = logits_of(1.0, 0.5, seed=4, count=500)
    calibration = Calibration(2.0, 0.0, 1, 1)
    probabilities = calibration.probability(np.concatenate([match, other]))
    truth = np.repeat([1, 0], [len(match), len(other)])
    weights = np.repeat([0.5 / len(match), 0.5 / len(other)], [len(match), len(other)])
    error = 0.0
    for low in range(15):
        inside = (probabilities >= low / 15) & (probabilities < (low + 1) / 15)
        error += abs((weights * (probabilities - truth))[inside].sum())
    blocks = [PairScores(match[:100], other[:7]), PairScores(match[100:], other[7:])]
    found = measure_reliability(calibration, blocks)
    assert found.error == pytest.approx(error)
    assert found.table["weight"].sum() == pytest.approx(1)


def test_pairs_of_one_kind_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="must exist, got 2 and 0"):
        fit_calibration(np.ones(2), np.ones(0))
    with pytest.raises(ValueError, match="must exist, got 2 and 0"):
        measure_reliability(Calibration(1, 0, 1, 1), [PairScores(np.ones(2), np.ones(0))])
