import numpy as np
import pytest

from qaconv.metrics import bootstrap, mean_with_interval, paired_difference


def test_the_interval_is_that_of_the_normal_law_for_many_queries() -> None:
    values = np.random.default_rng(0).random(2000)
    estimate = mean_with_interval(values, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_the_interval_holds_the_truth_in_about_95_of_100_samples() -> None:
    held = 0
    for sample in range(200):
        estimate = mean_with_interval(np.random.default_rng(sample).random(60) < 0.7, seed=sample)
        held += estimate.low <= 0.7 <= estimate.high
    assert 180 <= held <= 199


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).random(50)
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)
    assert mean_with_interval(values, seed=1) != mean_with_interval(values, seed=2)


def test_blocks_of_draws_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(50)
    whole = mean_with_interval(values, seed=1)
    monkeypatch.setattr(bootstrap, "BLOCK_QUERIES", 70)
    assert mean_with_interval(values, seed=1) == whole


def test_a_small_steady_gain_is_seen_though_the_two_intervals_overlap() -> None:
    hard = np.random.default_rng(0).random(300)
    better = hard + 0.02
    gain = paired_difference(better, hard, seed=1)
    assert 0 < gain.low <= gain.value == pytest.approx(0.02)
    assert mean_with_interval(better, seed=1).low < mean_with_interval(hard, seed=1).high


def test_a_difference_turns_its_sign_with_the_two_models() -> None:
    one, other = np.random.default_rng(0).random((2, 40))
    forth, back = paired_difference(one, other, seed=3), paired_difference(other, one, seed=3)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_queries_that_do_not_count_change_nothing() -> None:
    assert mean_with_interval([0.5, np.nan, 1.0], seed=1) == mean_with_interval([0.5, 1.0], seed=1)


def test_figures_of_other_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 of 2 in the first and 2 of 2 in the second"):
        paired_difference([0.5, np.nan], [0.5, 0.5], seed=1)
    with pytest.raises(ValueError, match="at least one query must count"):
        mean_with_interval([np.nan], seed=1)
