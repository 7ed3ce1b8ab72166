from collections.abc import Sequence

import numpy as np
import pandas as pd

from qaconv.report.examples import QueryRanking, choose, outcomes, rows_to_explain, search


def ranking(pids: list[int], camids: list[int], scores: Sequence[float]) -> QueryRanking:
    """Rank a gallery for a query of person 1 on camera 0."""
    frame = pd.DataFrame({"pid": [1, *pids], "camid": [0, *camids], "time_s": 0.0})
    frame["image"] = [f"{row}.jpg" for row in range(len(frame))]
    frame["split"] = ["query", *["gallery"] * len(pids)]
    return QueryRanking(frame, 0, np.array([99.0, *scores]))


def test_junk_and_the_query_s_own_camera_take_no_rank() -> None:
    example = search(ranking([-1, 1, 2, 1], [1, 0, 1, 1], [9, 8, 7, 6]), "near miss", 0.5)
    assert [(answer.verdict, answer.rank) for answer in example.answers] == [
        ("junk", None),
        ("same camera", None),
        ("not a match", 1),
        ("match", 2),
    ]
    assert example.first_rank == 2


def test_an_unlabelled_image_takes_no_rank() -> None:
    example = search(ranking([-2, 2, -2, 1], [1, 1, 0, 1], [9, 8, 7, 6]), "near miss", 0.5)
    assert [answer.verdict for answer in example.answers] == ["unlabelled", "not a match", "unlabelled", "match"]
    assert example.first_rank == 2


def test_of_equal_scores_the_image_that_is_not_a_match_comes_first() -> None:
    assert search(ranking([1, 2], [1, 1], [5, 5]), "near miss", 0.5).first_rank == 2


def test_ten_answers_that_count_are_shown_and_five_others_at_most() -> None:
    pids = [1] * 8 + [2] * 20
    shown = search(ranking(pids, [0] * 7 + [1] * 21, list(np.arange(28.0)[::-1])), "success", 1.0).answers
    assert [answer.rank for answer in shown] == [None] * 5 + list(range(1, 11))


def test_a_first_answer_that_is_not_a_match_is_explained_with_the_best_match() -> None:
    assert rows_to_explain(ranking([2, 1], [1, 1], [5, 4])) == [1, 2]
    assert rows_to_explain(ranking([2, 1], [1, 1], [4, 5])) == [2]


def test_the_outcome_depends_on_the_rank_of_the_first_match() -> None:
    ended = outcomes(pd.Series([1, 2, 5, 6, np.nan]))
    assert ended.tolist()[:4] == ["success", "near miss", "near miss", "failure"]
    assert ended.isna().tolist()[4]


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_queries() -> None:
    ended = pd.Series("success", index=[f"{number:03}.jpg" for number in range(50)])
    drawn = choose(ended, 3, seed=1)
    assert choose(ended.sample(frac=1, random_state=0), 3, seed=1) == drawn
    assert choose(ended, 3, seed=2) != drawn
    assert [len(drawn[outcome]) for outcome in ("success", "near miss", "failure")] == [3, 0, 0]
