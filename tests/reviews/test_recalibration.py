import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from qaconv.reviews.recalibration import Recalibration, fit_recalibration


def test_without_answers_probabilities_stay() -> None:
    fitted = fit_recalibration([], [], [])
    assert fitted == Recalibration(1.0, 0.0, 0)
    np.testing.assert_allclose(fitted([0.001, 0.5, 0.999]), [0.001, 0.5, 0.999])


def test_many_answers_give_the_line_of_the_truth() -> None:
    rng = np.random.default_rng(0)
    stated = expit(rng.normal(0, 3, 20_000))
    same = rng.random(len(stated)) < expit(0.6 * logit(stated) - 1)
    fitted = fit_recalibration(stated, same, np.ones(len(stated)))
    assert fitted.scale == pytest.approx(0.6, abs=0.03) and fitted.offset == pytest.approx(-1, abs=0.1)


@given(count=st.integers(1, 20), same=st.booleans(), stated=st.floats(0.05, 0.95))
def test_more_answers_move_a_probability_further_towards_them(count: int, same: bool, stated: float) -> None:
    few, more = (fit_recalibration([stated] * n, [float(same)] * n, [1.0] * n)([stated])[0] for n in (count, count + 5))
    assert stated < few < more if same else stated > few > more


def test_answers_with_unequal_weights_count_for_fewer() -> None:
    stated = np.full(20, 0.5)
    equal = fit_recalibration(stated, np.ones(20), np.full(20, 7.0))
    unequal = fit_recalibration(stated, np.ones(20), [100.0] + [1.0] * 19)
    assert 0 < unequal.offset < equal.offset


@given(answers=st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.5, 500)), max_size=30))
def test_the_order_of_pairs_stays(answers: list[tuple[float, float, float]]) -> None:
    fitted = fit_recalibration(*(np.array([row[column] for row in answers]) for column in range(3)))
    assert (np.diff(fitted(np.linspace(0, 1, 50))) >= 0).all()
