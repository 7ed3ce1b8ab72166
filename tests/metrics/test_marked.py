import numpy as np
import pytest

from qaconv.metrics.marked import ANSWERS, measure_marked

PIDS, CAMIDS = [1, 1, 2, 3], [1, 1, 1, 0]  # of the gallery
RANKING = np.array([[4.0, 2.0, 3.0, 9.0]])
PROBABILITIES = np.array([[0.95, 0.35, 0.85, 0.99]])


def test_marked_answers_are_counted_without_the_query_s_own_camera() -> None:
    answers = measure_marked(RANKING, PROBABILITIES, 0.5, [1], PIDS, [0], CAMIDS)
    assert (answers.marked, answers.right, answers.matches) == (2, 1, 2)
    assert (answers.precision, answers.recall) == (0.5, 0.5)
    assert answers.table["answers"].tolist() == [1, 1, 1] and answers.table["share"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(answers.table["probability"], [0.35, 0.85, 0.95])


def test_no_marked_answer_has_no_precision() -> None:
    answers = measure_marked(RANKING, PROBABILITIES, 0.96, [1], PIDS, [0], CAMIDS)
    assert (answers.marked, answers.precision, answers.recall) == (0, None, 0)


def test_only_the_best_answers_count_and_the_others_lower_the_share_that_is_found() -> None:
    ranking = np.arange(2.0 * ANSWERS)[None]
    stated = np.ones_like(ranking)
    everyone = [1] * ranking.size
    answers = measure_marked(ranking, stated, 0.5, [1], everyone, [0], everyone)
    assert (answers.marked, answers.recall) == (ANSWERS, 0.5)


def test_a_target_without_true_matches_is_refused() -> None:
    with pytest.raises(ValueError, match="no query has a true match"):
        measure_marked(RANKING, PROBABILITIES, 0.5, [9], PIDS, [0], CAMIDS)


def test_answers_to_one_person_count_together_in_the_error_of_a_share() -> None:
    gallery = np.zeros(2, dtype=int)
    queries = np.repeat([1, 2, 3, 4], 10)
    stated = np.tile([0.95, 0.01], (40, 1))
    one_for_each = measure_marked(stated, stated, 0.5, queries, [1, 9], [1] * 40, gallery)
    assert one_for_each.table["share"].tolist() == [0, 0.25]
    expected = np.sqrt(7.5**2 + 3 * 2.5**2) / 40  # of ten answers to each person, 7.5 more or 2.5 fewer are right
    np.testing.assert_allclose(one_for_each.table["share_error"], [0, expected])
