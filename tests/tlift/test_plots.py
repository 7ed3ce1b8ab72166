import numpy as np
import pandas as pd

from qaconv.tlift.plots import draw_rank_changes, rank_frame

BEFORE = [[0.9, 0.8, 0.1], [0.2, 0.9, 0.1]]
AFTER = [[0.3, 0.2, 0.7], [0.2, 0.9, 0.1]]


def test_rank_changes_say_where_the_new_first_stood_and_where_the_old_one_stands_by_time():
    frame = rank_frame(BEFORE, AFTER, [4, 5], [90.0, 10.0])
    assert frame.to_dict("list") == {
        "camid": [5, 4],
        "time_s": [10.0, 90.0],
        "new_first_was": [1, 3],
        "old_first_is": [1, 2],
    }


def test_scores_that_are_not_lifted_move_nothing():
    table = np.random.default_rng(0).random((5, 9))
    frame = rank_frame(table, table, np.zeros(5), np.arange(5.0))
    assert (frame[["new_first_was", "old_first_is"]] == 1).all(axis=None)


def test_picture_of_rank_changes_comes_with_its_numbers(tmp_path):
    draw_rank_changes(BEFORE, AFTER, [4, 5], [90.0, np.nan], tmp_path, "qaconv")
    assert (tmp_path / "qaconv_ranks.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv(tmp_path / "qaconv_ranks.csv")["new_first_was"].tolist() == [3, 1]
