"""Tracks of a synthetic site have the errors that are set, and those alone."""

import numpy as np
import pandas as pd
import pytest

from qaconv.config import SiteConfig, TrackerConfig
from qaconv.synthetic.render import choose_crops
from qaconv.synthetic.tracks import MISSED, number_tracks, track_table

SITE = SiteConfig(seed=2, cameras=3, people=60, distractors=10, junk=5)


@pytest.fixture(scope="module")
def boxes() -> pd.DataFrame:
    """Return 200 passes of ten boxes through two views, each of which meets the next one."""
    number = np.repeat(np.arange(200), 10)
    return pd.DataFrame({"pass": number, "camera": number % 2, "time_s": 4.0 * number + np.tile(np.arange(10.0), 200)})


def tracks_of(boxes: pd.DataFrame, **errors: float) -> pd.DataFrame:
    tracks = number_tracks(boxes, TrackerConfig.model_validate(errors), np.random.default_rng(3))
    return boxes.assign(track=tracks)


def test_without_errors_a_track_is_a_pass(boxes: pd.DataFrame) -> None:
    rows = tracks_of(boxes)
    assert (rows["track"] == rows["pass"] + 1).all()


def test_share_of_breaks_is_that_of_passes_with_a_second_track(boxes: pd.DataFrame) -> None:
    rows = tracks_of(boxes, breaks=0.3)
    tracks = rows.groupby("pass")["track"].nunique()
    assert set(tracks) == {1, 2} and 0.2 < (tracks == 2).mean() < 0.4
    assert (rows.groupby("track")["pass"].nunique() == 1).all()
    assert (rows.groupby("pass")["track"].diff().fillna(0) >= 0).all()  # the second track begins once


def test_switched_track_goes_on_with_a_person_who_is_in_the_same_view(boxes: pd.DataFrame) -> None:
    rows = tracks_of(boxes, switches=0.2)
    people = rows.groupby("track")["pass"].nunique()
    assert set(people) == {1, 2} and 0.15 < (people == 2).mean() < 0.5
    switched = rows[rows["track"].isin(people.index[people == 2])]
    assert (switched.groupby("track")["camera"].nunique() == 1).all()
    for _, track in switched.sort_values("time_s").groupby("track"):
        assert (np.diff(track["pass"]) != 0).sum() == 1
        assert track["time_s"].diff().max() <= 4


def test_share_of_missed_boxes_is_that_which_is_set(boxes: pd.DataFrame) -> None:
    rows = tracks_of(boxes, missed=0.1)
    assert 0.08 < (rows["track"] == MISSED).mean() < 0.12
    assert set(tracks_of(boxes, missed=1.0)["track"]) == {MISSED}


def test_table_of_a_site_knows_tracks_cameras_and_times_and_no_people() -> None:
    crops = choose_crops(SITE)
    rng = np.random.default_rng(0)
    table = track_table(crops, TrackerConfig(missed=0.2), rng)
    assert list(table.columns) == ["image", "camid", "time_s", "track"]
    assert 0.7 < len(table) / len(crops) < 0.9
    joined = table.merge(crops, left_on="image", right_on="path", suffixes=("", "_true"), validate="one_to_one")
    assert (joined["camid"] == "c" + (joined["camera"] + 1).astype(str)).all()
    assert (joined.groupby("track")[["camid", "person", "visit"]].nunique() == 1).all(axis=None)
    seconds = (pd.to_datetime(joined["time_s"]) - pd.Timestamp("2026-01-05", tz="UTC")).dt.total_seconds()
    np.testing.assert_allclose(seconds, joined["day"] * 86_400 + joined["clock_s"], atol=1e-3)


def test_tracks_change_no_crop_of_a_site() -> None:
    tracked = SITE.model_copy(update={"tracks": TrackerConfig(breaks=0.5)})
    pd.testing.assert_frame_equal(choose_crops(tracked), choose_crops(SITE))
