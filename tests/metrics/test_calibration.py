import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.metrics import Calibration, fit_calibration, measure_reliability
from qaconv.metrics.sightings import PairScores


def logits_of(
    scale: float, offset: float, seed: int, count: int = 40_000
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw logits of matches and of other pairs whose log odds at even odds are scale * logit + offset."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-offset / scale, 2 / scale, count)
    match = rng.random(count) < expit(scale * logits + offset)
    return logits[match], logits[~match]


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.2, 1.5), (3.0, -4.0)])
def test_the_fit_finds_the_scale_and_offset_of_the_drawn_pairs(scale: float, offset: float) -> None:
    fitted = fit_calibration(*logits_of(scale, offset, seed=1))
    assert fitted.scale == pytest.approx(scale, rel=0.05)
    assert fitted.offset == pytest.approx(offset, abs=0.1)


def test_the_numbers_of_pairs_do_not_change_the_fit() -> None:
    match, other = logits_of(1.0, 0.5, seed=2)
    few = fit_calibration(match, other)
    many = fit_calibration(match, np.tile(other, 5))
    assert many.scale == pytest.approx(few.scale, rel=1e-2)
    assert many.offset == pytest.approx(few.offset, abs=1e-2)


def test_separable_pairs_have_a_finite_scale() -> None:
    fitted = fit_calibration(np.array([5.0, 6.0]), np.array([-5.0, -6.0]))
    assert 0 < fitted.scale < 10
    assert 0.5 < fitted.probability(5.5) < 1


def test_reversed_scores_have_the_scale_0() -> None:
    assert fit_calibration(np.array([-2.0, -1.0]), np.array([1.0, 2.0])).scale == 0


@given(st.floats(0.01, 0.99), st.floats(-20, 20))
def test_a_prior_multiplies_the_odds(prior: float, logit: float) -> None:
    calibration = Calibration(scale=0.5, offset=-1, matches=1, others=1)
    even, moved = calibration.probability(logit), calibration.probability(logit, prior=prior)
    assert moved / (1 - moved) == pytest.approx(even / (1 - even) * prior / (1 - prior), rel=1e-6)


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_prior_of_0_or_1_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior must be in"):
        Calibration(1, 0, 1, 1).probability(0.0, prior=prior)


def test_the_right_calibration_has_a_small_error_and_an_overconfident_one_a_large_one() -> None:
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
