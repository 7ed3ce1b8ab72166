from pathlib import Path

import numpy as np
import pandas as pd

from qaconv.tlift import TLiftProfile
from qaconv.tlift.plots import _transit_grid, draw_rank_changes, rank_frame, transit_frame
from qaconv.tlift.transit import TransitTable

BEFORE = np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.1]])
AFTER = np.array([[0.3, 0.2, 0.7], [0.2, 0.9, 0.1]])


def test_rank_changes_have_the_old_rank_of_the_new_first_and_the_new_rank_of_the_old_first() -> None:
    frame = rank_frame(BEFORE, AFTER, [4, 5], [90.0, 10.0])
    assert frame.to_dict("list") == {
        "camid": [5, 4],
        "time_s": [10.0, 90.0],
        "new_first_was": [1, 3],
        "old_first_is": [1, 2],
    }


def test_unchanged_scores_change_no_rank() -> None:
    table = np.random.default_rng(0).random((5, 9))
    frame = rank_frame(table, table, np.zeros(5), np.arange(5.0))
    assert (frame[["new_first_was", "old_first_is"]] == 1).all(axis=None)


def test_picture_of_rank_changes_comes_with_its_numbers(tmp_path: Path) -> None:
    draw_rank_changes(BEFORE, AFTER, [4, 5], [90.0, np.nan], tmp_path, "qaconv")
    assert (tmp_path / "qaconv_ranks.png").read_bytes().startswith(b"\x89PNG")
    assert pd.read_csv(tmp_path / "qaconv_ranks.csv")["new_first_was"].tolist() == [3, 1]


def test_transit_times_are_titled_by_the_cameras_names_where_they_have_some() -> None:
    flat = TransitTable([0.0], 1.0, [[0.0] * 20])
    for cameras, title in (({}, "camera 0 to 1"), ({0: "entrance", 1: "hall"}, "entrance to hall")):
        profile = TLiftProfile("mall", (0, 1), active=True, reason="made up", transit=flat, cameras=cameras)
        grid = _transit_grid(profile, transit_frame(profile))
        assert [axes.get_title() for axes in grid.axes if axes.get_visible()] == [title]
