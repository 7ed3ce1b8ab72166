import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaconv.reviews.sample import draw_sample

THRESHOLD = 0.73
probabilities = st.lists(st.floats(0, 1), max_size=60)


@given(stated=probabilities, threshold=st.floats(0, 1))
def test_every_pair_is_asked_about_once_and_a_stratum_is_marked_or_not(stated: list[float], threshold: float) -> None:
    sample = draw_sample(stated, threshold, seed=0)
    assert sorted(sample.order) == list(range(len(stated)))
    marked = np.array(stated) > threshold
    for stratum in np.unique(sample.stratum):
        assert len(set(marked[sample.stratum == stratum])) == 1
    for name, probability in zip(sample.names(), stated, strict=True):
        low, high = map(float, name.split(" to "))
        assert low * 0.999 <= probability <= high * 1.001


@given(stated=probabilities)
def test_the_same_seed_gives_the_same_order(stated: list[float]) -> None:
    first, second = (draw_sample(stated, THRESHOLD, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.order, second.order)


def test_another_seed_gives_another_order() -> None:
    stated = np.linspace(0, 1, 200)
    orders = {tuple(draw_sample(stated, THRESHOLD, seed=seed).order) for seed in range(20)}
    assert len(orders) == 20


def test_each_pair_of_a_stratum_is_asked_first_as_often_as_the_others() -> None:
    stated = np.repeat([0.2, 0.95], 5)
    firsts = np.zeros(10)
    for seed in range(1000):
        firsts[draw_sample(stated, THRESHOLD, seed=seed).order[:2]] += 1
    assert (np.abs(firsts - 200) < 50).all()  # of 1,000 draws from five pairs; four deviations


@pytest.mark.parametrize("count", [10, 40, 100])
def test_half_of_every_start_of_the_order_is_marked(count: int) -> None:
    stated = np.concatenate([np.linspace(0, 0.7, 900), np.linspace(0.8, 1, 100)])
    asked = draw_sample(stated, THRESHOLD, seed=1).order[:count]
    assert abs((stated[asked] > THRESHOLD).mean() - 0.5) <= 0.1


def test_a_stratum_whose_answers_can_differ_more_is_asked_about_more() -> None:
    stated = np.repeat([0.005, 0.5], 500)
    asked = draw_sample(stated, THRESHOLD, seed=1).order[:100]
    assert (stated[asked] == 0.5).sum() > 70


@pytest.mark.parametrize(("stated", "threshold"), [([0.5, 1.1], 0.5), ([np.nan], 0.5), ([0.5], -0.1)])
def test_what_is_no_probability_is_refused(stated: list[float], threshold: float) -> None:
    with pytest.raises(ValueError, match=r"probabilities and threshold must be in 0..1"):
        draw_sample(stated, threshold, seed=0)
