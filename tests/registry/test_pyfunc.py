"""The registered model's ranking, on a model of two locations."""

from pathlib import Path

import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext

from qaconv.errors import InputError
from qaconv.registry.pyfunc import Ranker
from tests.small_service import crop, small_model, text

GALLERY = 40
CONTEXT = PythonModelContext({}, {})  # type: ignore[no-untyped-call]  # not used by predict


@pytest.fixture
def ranker(tmp_path: Path) -> Ranker:
    small_model(tmp_path)
    ranker = Ranker()
    context = PythonModelContext({"served": str(tmp_path)}, {})  # type: ignore[no-untyped-call]
    ranker.load_context(context)
    return ranker


def table(query_time_s: float | None = 200.0) -> pd.DataFrame:
    query = {"role": "query", "id": "asked", "image": text(crop(100)), "camid": 0, "time_s": query_time_s}
    gallery = [
        {"role": "gallery", "id": str(at), "image": text(crop(at)), "camid": at % 3, "time_s": 10.0 * at}
        for at in range(GALLERY)
    ]
    return pd.DataFrame([query, *gallery])


def test_rows_come_in_the_order_of_the_lifted_score_where_a_target_is_named(ranker: Ranker) -> None:
    rows = ranker.predict(CONTEXT, table(), {"target": "mall", "top_k": GALLERY, "correspondences": 0})
    assert rows["rank"].tolist() == list(range(1, GALLERY + 1))
    assert rows["lifted"].is_monotonic_decreasing and not rows["score"].is_monotonic_decreasing


def test_rows_come_in_the_order_of_the_logit_where_no_target_is_named(ranker: Ranker) -> None:
    rows = ranker.predict(CONTEXT, table(), {"top_k": GALLERY, "correspondences": 0})
    assert rows["score"].is_monotonic_decreasing and rows["lifted"].isna().all()


def test_the_rows_of_top_k_are_the_best(ranker: Ranker) -> None:
    everything = ranker.predict(CONTEXT, table(), {"target": "mall", "top_k": GALLERY, "correspondences": 0})
    best = ranker.predict(CONTEXT, table(), {"target": "mall", "top_k": 5, "correspondences": 0})
    assert best["gallery"].tolist() == everything["gallery"].tolist()[:5]


def test_a_time_in_milliseconds_is_refused(ranker: Ranker) -> None:
    with pytest.raises(InputError, match="time_s must be seconds from"):
        ranker.predict(CONTEXT, table(query_time_s=1764211494000.0), {"target": "mall"})


@pytest.mark.parametrize("column", ["role", "image", "camid"])
def test_a_missing_column_is_named(column: str, ranker: Ranker) -> None:
    with pytest.raises(InputError, match=f"model_input: must have the columns {column}, got "):
        ranker.predict(CONTEXT, table().drop(columns=column))


def test_a_gallery_crop_at_an_unknown_camera_is_matched_without_its_time(ranker: Ranker) -> None:
    settings = {"target": "mall", "top_k": GALLERY, "correspondences": 0}
    crops = table()
    unknown = crops.assign(camid=crops["camid"].where(crops["id"] != "7", 99))
    timeless = crops.assign(time_s=crops["time_s"].where(crops["id"] != "7", None))
    rows = [ranker.predict(CONTEXT, changed, settings).set_index("gallery") for changed in (unknown, timeless)]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    with pytest.raises(InputError, match="query_camids must be cameras of the profile of mall"):
        ranker.predict(CONTEXT, crops.assign(camid=crops["camid"].where(crops["role"] != "query", 99)), settings)
