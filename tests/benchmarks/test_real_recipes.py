from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.real_recipes import HELD_OUT, split_people
from qaconv.data.manifest import Manifest


def test_people_are_trained_on_or_measured_and_each_has_one_query_a_camera() -> None:
    rng = np.random.default_rng(0)
    count = 400
    frame = pd.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(count)],
            "pid": rng.integers(0, 40, count),
            "camid": rng.integers(0, 6, count),
            "time_s": rng.random(count),
            "split": "train",
            "domain": "market",
        }
    )
    trained, measured = split_people(Manifest(frame, Path("raw")))
    assert set(trained.frame["pid"]).isdisjoint(measured.frame["pid"])
    assert len(trained.frame) + len(measured.frame) == count
    assert measured.frame["pid"].nunique() == 40 / HELD_OUT
    queries = measured.split("query")
    assert not queries.duplicated(["pid", "camid"]).any()
    assert len(queries) == len(measured.frame[["pid", "camid"]].drop_duplicates())
