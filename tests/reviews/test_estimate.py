from dataclasses import astuple
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from qaconv.reviews import estimate
from qaconv.reviews.estimate import Cell, ReviewedMatches, estimate_matches, group_cells
from qaconv.reviews.sample import draw_sample

THRESHOLD = 0.73
SEEDS = 60


def simulate(scale: float, offset: float) -> tuple[pd.DataFrame, float, float]:
    """Draw 3,000 pairs whose true log odds are a line of the stated ones; return them, true precision and recall."""
    rng = np.random.default_rng(1)
    stated = expit(rng.normal(-1, 3, 3000))
    truth = rng.random(len(stated)) < expit(scale * logit(stated) + offset)
    marked = stated > THRESHOLD
    table = pd.DataFrame({"stated": stated, "marked": marked, "truth": truth.astype(float)})
    return table, truth[marked].mean(), (truth & marked).sum() / truth.sum()


def review(pairs: pd.DataFrame, answers: int, seed: int) -> ReviewedMatches:
    """Answer the first pairs of a sample, and estimate."""
    sample = draw_sample(pairs["stated"], THRESHOLD, seed=seed)
    asked = np.zeros(len(pairs), dtype=bool)
    asked[sample.order[:answers]] = True
    return estimate_matches(group_cells(pairs.assign(stratum=sample.names(), same=pairs["truth"].where(asked))))


@cache
def repeat(scale: float, offset: float) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Repeat samples of 100 answers; return the truth, and value, low and high of each, [SEEDS, 3]."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "DRAWS", 500)
        pairs, precision, recall = simulate(scale, offset)
        made = [review(pairs, 100, seed) for seed in range(SEEDS)]
    figures = {
        "precision": np.array([astuple(one.precision) for one in made if one.precision]),
        "recall": np.array([astuple(one.recall) for one in made if one.recall]),
    }
    return {"precision": precision, "recall": recall}, figures


# Stated probabilities that are true, too high and too sure.
@pytest.mark.parametrize("line", [(1.0, 0.0), (1.0, -1.0), (0.7, 0.0)])
@pytest.mark.parametrize("name", ["precision", "recall"])
def test_estimates_of_a_hundred_answers_have_no_bias_and_intervals_hold_the_truth(
    line: tuple[float, float], name: str
) -> None:
    truth, figures = repeat(*line)
    values, low, high = figures[name].T
    assert abs(values.mean() - truth[name]) < 3 * values.std() / np.sqrt(SEEDS) + 0.005  # a ratio's own bias is small
    assert ((low <= truth[name]) & (truth[name] <= high)).mean() >= 0.9


def test_a_hundred_answers_halve_the_intervals() -> None:
    pairs, _, _ = simulate(1.0, 0.0)
    none, hundred = review(pairs, 0, 0), review(pairs, 100, 0)
    for before, after in ((none.precision, hundred.precision), (none.recall, hundred.recall)):
        assert before and after and after.high - after.low < (before.high - before.low) / 2


def test_all_answers_give_the_truth_without_an_interval() -> None:
    pairs, precision, recall = simulate(1.0, 0.0)
    made = review(pairs, len(pairs), 0)
    assert made.precision and made.recall
    assert (made.precision.value, made.precision.low, made.precision.high) == pytest.approx((precision,) * 3)
    assert (made.recall.value, made.recall.low, made.recall.high) == pytest.approx((recall,) * 3)


def test_without_answers_the_stated_probabilities_are_the_estimate() -> None:
    cells = [Cell("0.9 to 1", True, 100, 0.95, 0, 0), Cell("0 to 0.9", False, 200, 0.1, 0, 0)]
    made = estimate_matches(cells)
    assert made.answers == 0 and made.precision and made.recall
    assert made.precision.value == pytest.approx(0.95) and made.recall.value == pytest.approx(95 / 115)


def test_nothing_marked_has_no_precision_and_no_pairs_have_neither() -> None:
    made = estimate_matches([Cell("0 to 0.9", False, 200, 0.1, 0, 0)])
    assert made.precision is None and made.recall and made.recall.value == 0
    assert estimate_matches([]) == ReviewedMatches(None, None, 0)


shares = st.floats(0, 1)
cells_of_any_kind = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 40), shares, shares, shares),
    max_size=6,
    unique_by=lambda cell: cell[:2],
)


@settings(max_examples=30)
@given(cells=cells_of_any_kind)
def test_a_value_lies_in_its_interval_and_both_in_0_to_1(
    cells: list[tuple[str, bool, int, float, float, float]],
) -> None:
    made = estimate_matches(
        [
            Cell(stratum, marked, pairs, stated, int(pairs * answered), int(pairs * answered) * same)
            for stratum, marked, pairs, stated, answered, same in cells
        ]
    )
    for figure in (made.precision, made.recall):
        assert figure is None or 0 <= figure.low <= figure.value <= figure.high <= 1


def test_answers_alone_stand_for_the_pairs_of_their_stratum() -> None:
    """A later version marks other pairs, so a stratum may have some of both."""
    answered = pd.DataFrame(
        {
            "stratum": ["0.6 to 0.9"] * 4 + ["0 to 0.6"],
            "marked": [True, True, True, False, False],
            "stated": [0.9, 0.9, 0.9, 0.5, 0.1],
            "same": [1.0, 1.0, 0.0, 1.0, 0.0],
            "stratum_pairs": [40] * 4 + [100],
        }
    )
    cells = {(cell.stratum, cell.marked): cell for cell in group_cells(answered)}
    assert cells["0.6 to 0.9", True].pairs == 30 and cells["0.6 to 0.9", False].pairs == 10
    made = estimate_matches(list(cells.values()))
    assert made.precision and made.precision.value == pytest.approx(2 / 3)
    assert made.recall and made.recall.value == pytest.approx(20 / 30)
