"""Times that cannot be seconds are refused wherever times come in, by one rule."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from qaconv.config.operation import IngestConfig
from qaconv.data.ingest import check_batch
from qaconv.data.ingest_dataset import Dataset
from qaconv.errors import InputError
from qaconv.serving.fields import Time
from qaconv.times import LARGEST_S, check_seconds
from qaconv.tlift import fit_profile, temporal_lift

NOW_MS = 1764211494000.0


@pytest.mark.parametrize("value", [NOW_MS, 1000 * NOW_MS, -NOW_MS, np.inf, -np.inf])
def test_milliseconds_and_smaller_units_since_1970_are_refused(value: float) -> None:
    with pytest.raises(
        InputError, match=r"^sightings.csv: time_s must be seconds from .*, got 1 that are not, such as"
    ):
        check_seconds("sightings.csv: time_s", [10.0, value])


@pytest.mark.parametrize("value", [0.0, -86400.0, NOW_MS / 1000, LARGEST_S, np.nan])
def test_seconds_before_and_after_any_start_are_accepted(value: float) -> None:
    check_seconds("times", [value])


def test_a_fit_refuses_milliseconds_before_it_reads_scores() -> None:
    with pytest.raises(InputError, match="times must be seconds from"):
        fit_profile([[1], [0]], [[0.9], [0.9]], camids=[0, 1], times=[NOW_MS, NOW_MS + 15000])


def test_a_lift_refuses_milliseconds() -> None:
    with pytest.raises(InputError, match="gallery_times must be seconds from"):
        temporal_lift([[0.5, 0.5]], [0], [10], [1, 1], [20, NOW_MS])


def test_the_service_refuses_what_prepare_refuses_and_takes_what_it_takes() -> None:
    seconds: TypeAdapter[float | str] = TypeAdapter(Time)
    assert seconds.validate_python(LARGEST_S) == LARGEST_S
    with pytest.raises(
        ValidationError, match="time must be seconds from .*, got 1 that are not, such as 1764211494000"
    ):
        seconds.validate_python(NOW_MS)


def test_a_batch_of_milliseconds_is_rejected_with_its_table_and_rows(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "pid": 1, "camid": 0, "time_s": int(NOW_MS), "split": "gallery"}
    pd.DataFrame([row]).to_csv(tmp_path / "sightings.csv", index=False)
    rules = IngestConfig(max_share_change=0.3, share_from=100, wait_hours=1)
    fault = check_batch(tmp_path / "sightings.csv", {}, Dataset(tmp_path / "dataset"), rules).fault
    assert "sightings.csv: 1 rows have a time_s that is neither empty nor seconds" in fault
    assert f"row 1: a.jpg,1,0,{int(NOW_MS)},gallery" in fault
