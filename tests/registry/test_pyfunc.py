"""The registered model's ranking, on a model of two locations."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.model import PythonModelContext

from qaconv.errors import InputError
from qaconv.registry.packaging import INPUTS
from qaconv.registry.pyfunc import Ranker
from qaconv.serving.messages import NewSighting, Query
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.times import UNIX_EPOCH
from tests.camera_version import DARK, RED, TARGET, files_of
from tests.small_service import ANY, calibrate_gently, crop, small_model, text
from tests.small_service import SETTINGS as SERVE

GALLERY = 40
CONTEXT = PythonModelContext({}, {})  # type: ignore[no-untyped-call]  # not used by predict


def load(folder: Path) -> Ranker:
    ranker = Ranker()
    context = PythonModelContext({"served": str(folder)}, {})  # type: ignore[no-untyped-call]
    ranker.load_context(context)
    return ranker


@pytest.fixture
def ranker(tmp_path: Path) -> Ranker:
    small_model(tmp_path)
    return load(tmp_path)


def table(query_time_s: float | None = 200.0) -> pd.DataFrame:
    query = {"role": "query", "id": "asked", "image": text(crop(100)), "camid": 0, "time_s": query_time_s}
    gallery = [
        {
            "role": "gallery",
            "id": str(number),
            "image": text(crop(number)),
            "camid": number % 3,
            "time_s": 10.0 * number,
        }
        for number in range(GALLERY)
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


def name_cameras(ranker: Ranker, **changes: Any) -> None:
    """Give mall names of cameras in another order than their numbers in `table`, and dates."""
    profiles = ranker.model.profiles
    named = replace(profiles["mall"], cameras={0: "roof", 1: "lift", 2: "hall"}, time_origin=UNIX_EPOCH)
    profiles["mall"] = replace(named, **changes)


def test_cameras_by_name_and_dates_rank_as_their_numbers_and_seconds_do(ranker: Ranker) -> None:
    name_cameras(ranker)
    names = {0: "roof", 1: "lift", 2: "hall"}
    numbers = table()
    dates = [datetime.fromtimestamp(time_s, UTC).isoformat() for time_s in numbers["time_s"]]
    settings = {"target": "mall", "top_k": GALLERY, "correspondences": 0}
    named = ranker.predict(CONTEXT, numbers.assign(camid=numbers["camid"].map(names), time_s=dates), settings)
    pd.testing.assert_frame_equal(named, ranker.predict(CONTEXT, numbers, settings))
    mixed = numbers["camid"].astype(object).where(numbers.index % 2 == 0, numbers["camid"].map(names))
    pd.testing.assert_frame_equal(ranker.predict(CONTEXT, numbers.assign(camid=mixed), settings), named)


@pytest.mark.parametrize(
    ("column", "value", "target", "message"),
    [
        ("camid", "garage", "mall", r"camid: mall has no camera 'garage'; it has \['roof', 'lift', 'hall'\]"),
        ("camid", "roof", "station", r"camid: station has cameras by number, got 'roof'; it has \[0, 1, 2\]"),
        ("camid", 0.5, "mall", "camid: must be in 0..9,999, or a camera's name, got 0.5"),
        ("camid", None, "mall", "camid: must be in 0..9,999, or a camera's name, got None"),
        ("time_s", "2026-11-27T08:15Z", "station", "time_s: must be seconds on the clocks of the cameras of station"),
        ("time_s", "2026-11-27T08:15", "mall", "time_s: must be seconds or a date with time and zone in ISO 8601"),
        ("time_s", "2026-11-27T08:15", "", "time_s: must be seconds or a date with time and zone in ISO 8601"),
        ("time_s", b"noon", "mall", "time_s: must be seconds, or a date with time and zone in ISO 8601"),
    ],
)
def test_a_camera_or_time_that_the_target_cannot_have_is_refused_by_name(
    column: str, value: Any, target: str, message: str, ranker: Ranker
) -> None:
    name_cameras(ranker)
    rows = table()
    values = rows[column].astype(object)
    values[1] = value
    with pytest.raises(InputError, match=message):
        ranker.predict(CONTEXT, rows.assign(**{column: values}), {"target": target})


def test_without_a_target_cameras_may_have_any_name(ranker: Ranker) -> None:
    rows = table().assign(camid="garage", time_s="2026-11-27T08:15Z")
    settings = {"top_k": GALLERY, "correspondences": 0}
    pd.testing.assert_frame_equal(ranker.predict(CONTEXT, rows, settings), ranker.predict(CONTEXT, table(), settings))


@pytest.mark.parametrize("column", ["role", "image", "camid"])
def test_a_missing_column_is_named(column: str, ranker: Ranker) -> None:
    with pytest.raises(InputError, match=f"model_input: must have the columns {column}, got "):
        ranker.predict(CONTEXT, table().drop(columns=column))


def test_the_signature_lets_names_and_dates_pass() -> None:
    texts = table().assign(camid="roof", time_s="2026-11-27T08:15Z")
    for rows in (table(), texts):
        checked = _enforce_schema(rows, INPUTS)
        assert checked["camid"].tolist() == rows["camid"].tolist()


def test_a_gallery_crop_at_an_unknown_camera_is_matched_without_its_time(ranker: Ranker) -> None:
    settings = {"target": "mall", "top_k": GALLERY, "correspondences": 0}
    crops = table()
    unknown = crops.assign(camid=crops["camid"].where(crops["id"] != "7", 99))
    timeless = crops.assign(time_s=crops["time_s"].where(crops["id"] != "7", None))
    rows = [ranker.predict(CONTEXT, changed, settings).set_index("gallery") for changed in (unknown, timeless)]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    with pytest.raises(InputError, match="query_camids must be cameras of the profile of mall"):
        ranker.predict(CONTEXT, crops.assign(camid=crops["camid"].where(crops["role"] != "query", 99)), settings)


SETTINGS = {"target": "mall", "top_k": GALLERY, "correspondences": 1}


def test_a_column_of_tracks_without_any_name_changes_no_answer(ranker: Ranker) -> None:
    rows = ranker.predict(CONTEXT, table(), SETTINGS)
    for empty in (None, "", float("nan")):
        answers = ranker.predict(CONTEXT, table().assign(track=empty), SETTINGS)
        assert answers.pop("sightings").tolist() == [[one] for one in rows["gallery"]]
        pd.testing.assert_frame_equal(answers, rows, check_exact=True)


def test_crops_of_one_track_are_one_query_and_those_of_the_gallery_one_answer(ranker: Ranker) -> None:
    queries = [table().head(1).assign(id=name, image=text(crop(seed))) for name, seed in (("asked", 100), ("too", 0))]
    rows = pd.concat([*queries, table().tail(GALLERY)], ignore_index=True)
    single = ranker.predict(CONTEXT, rows, {"top_k": GALLERY}).set_index(["query", "gallery"])["score"].unstack()
    calibrate_gently(ranker.model)
    rows["track"] = ["a", "a", *(f"t{number // 9}" for number in range(GALLERY))]
    answers = ranker.predict(CONTEXT, rows, {"top_k": GALLERY}).set_index("gallery")
    assert set(answers["query"]) == {"asked"}
    by_camera = [
        [str(number) for number in range(GALLERY) if (number % 3, number // 9) == place] for place in np.ndindex(3, 5)
    ]
    assert sorted(map(sorted, answers["sightings"])) == sorted(map(sorted, by_camera))
    for best, answer in answers.iterrows():
        block = single[answer["sightings"]]
        assert block.max().tolist() == sorted(block.max(), reverse=True) and block.columns[0] == best
        assert answer["score"] == pytest.approx((block.max().mean() + block.max(axis=1).mean()) / 2)
        assert answer["probability"] == pytest.approx(float(ranker.model.probability(block.to_numpy().mean())))
    assert answers["score"].is_monotonic_decreasing


def test_a_track_has_the_time_of_its_crop_in_the_middle(ranker: Ranker) -> None:
    rows = table()
    rows["track"] = ["", *(f"t{number // 9}" for number in range(GALLERY))]
    answers = ranker.predict(CONTEXT, rows, SETTINGS)
    middle = rows.groupby(["camid", "track"])["time_s"].transform(lambda times: sorted(times)[(len(times) - 1) // 2])
    pd.testing.assert_frame_equal(answers, ranker.predict(CONTEXT, rows.assign(time_s=middle), SETTINGS))
    first = rows.groupby(["camid", "track"])["time_s"].transform("min")
    assert not answers["lifted"].equals(ranker.predict(CONTEXT, rows.assign(time_s=first), SETTINGS)["lifted"])


@pytest.mark.parametrize("name", [7, " a", "a\nb", "t" * 101])
def test_a_track_that_is_no_name_is_refused(name: Any, ranker: Ranker) -> None:
    with pytest.raises(InputError, match="track: must have 1 to 100 printable characters without outer spaces, got"):
        ranker.predict(CONTEXT, table().assign(track=pd.Series({1: name}, dtype=object)), {})


def test_crops_are_encoded_for_the_cameras_of_a_target_as_in_the_service_and_alike_without_one(
    camera_version: Path, tmp_path: Path
) -> None:
    ranker = load(camera_version)
    files = {"query": (files_of(DARK), DARK), "gallery": (files_of(RED), RED)}
    rows = pd.DataFrame(
        {"role": role, "id": str(number), "image": text(file), "camid": camid}
        for role, (seen, camid) in files.items()
        for number, file in enumerate(seen, start=1)
    )
    settings = {"top_k": 1, "correspondences": 0}
    best = ranker.predict(CONTEXT, rows, {**settings, "target": TARGET})
    assert (best["gallery"] == best["query"]).mean() > 0.9
    alike = ranker.predict(CONTEXT, rows, settings)
    assert (alike["gallery"] == alike["query"]).mean() < 0.3

    service = Service(Records(tmp_path), SERVE, "1", ranker.model)
    ids = service.enrol(TARGET, [NewSighting(file, RED) for file in files_of(RED)]).ids
    queries = [Query([file], camid=DARK) for file in files_of(DARK)]
    matches = [first for (first,) in service.search(TARGET, queries, ANY, 1).results]
    assert best["gallery"].tolist() == [str(1 + ids.index(match.id)) for match in matches]
    assert best["score"].tolist() == pytest.approx([match.score for match in matches], abs=0.05)
