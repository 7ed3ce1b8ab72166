from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat

from qaconv.data import layouts
from qaconv.data.layouts.mars import read
from qaconv.errors import InputError
from tests.data.layouts.layout_writers import write_mars

Rows = NDArray[np.int64]


@pytest.fixture
def mars(tmp_path: Path, sightings: pd.DataFrame) -> Path:
    write_mars(tmp_path, sightings)
    return tmp_path


def test_images_of_a_tracklet_share_a_track_on_one_camera(mars: Path) -> None:
    frame = read(mars, "mars").frame
    tracklet = frame["image"].str.extract(r"/([^/]+)F\d+\.jpg$")[0]
    assert (frame.groupby(tracklet)["track"].nunique() == 1).all()
    assert (frame.groupby("track")[["pid", "camid", "split"]].nunique() == 1).all(axis=None)
    assert frame["track"].str.match(r"(train|test)-\d+$").all()


def test_images_of_long_tracklets_are_spread_over_them(mars: Path) -> None:
    everything = layouts.read("mars", mars, images_per_track=0)
    some = layouts.read("mars", mars, images_per_track=1)
    sizes = everything.frame.groupby("track").size()
    assert sizes.max() >= 3
    assert some.frame.groupby("track").size().to_dict() == dict.fromkeys(sizes.index, 1)
    long = sizes.index[sizes == 3][0]
    image = some.frame.set_index("track").loc[long, "image"]
    assert str(image).endswith("F002.jpg")
    assert (some.notes, everything.notes) == ({"images_per_track": "1"}, {"images_per_track": "all"})


@pytest.mark.parametrize(
    ("path", "key", "edit", "fault"),
    [
        ("info/query_IDX.mat", "query_IDX", lambda rows: rows + 999, "rows must be in 1.."),
        (
            "info/tracks_test_info.mat",
            "track_test_info",
            lambda rows: rows + np.array([0, 999, 0, 0]),
            "have images outside 1..",
        ),
        ("info/tracks_test_info.mat", "track_test_info", lambda rows: rows[:, :3], "must have 4 columns"),
        (
            "info/tracks_train_info.mat",
            "track_train_info",
            lambda rows: rows + np.array([0, 0, 1, 0]),
            "another pid or camera",
        ),
        (
            "info/tracks_train_info.mat",
            "other",
            lambda rows: rows,
            "cannot be read as a MATLAB file with track_train_info",
        ),
    ],
)
def test_lists_that_do_not_fit_each_other_are_refused(
    mars: Path,
    path: str,
    key: str,
    edit: Callable[[Rows], Rows],
    fault: str,
) -> None:
    content = loadmat(mars / path)
    (rows,) = (value for name, value in content.items() if not name.startswith("__"))
    savemat(mars / path, {key: edit(rows)})
    with pytest.raises(InputError, match=fault):
        read(mars, "mars")


def test_damaged_matlab_file_and_bad_names_are_refused(mars: Path) -> None:
    names = mars / "info/train_name.txt"
    text = names.read_text()
    names.write_text(text.replace("C1T", "X1T", 1))
    with pytest.raises(InputError, match=r"1 names do not have the form 0001C1T0001F001\.jpg"):
        read(mars, "mars")
    (mars / "info/query_IDX.mat").write_bytes(b"MATLAB 5.0 but not for long")
    with pytest.raises(InputError, match=r"query_IDX\.mat: cannot be read as a MATLAB file"):
        read(mars, "mars")
    with pytest.raises(InputError, match="option images_per_track must be 0 or above, got -1"):
        read(mars, "mars", images_per_track=-1)
