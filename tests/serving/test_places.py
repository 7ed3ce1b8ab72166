"""Cameras by name, dates and tracks are enrolled, searched and shown as the target's profile has them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from qaconv.serving.app import create_app
from qaconv.serving.messages import Limits, NewSighting, Query
from qaconv.serving.places import number_camera, number_cameras
from qaconv.serving.service import Service
from qaconv.serving.storage import Sighting
from qaconv.times import UNIX_EPOCH
from qaconv.tlift import TLiftProfile
from tests.small_service import ANY, SETTINGS, crop, small_model, small_service, switch_version, text

MALL = "/v1/targets/mall"
NAMES = {0: "hall", 1: "lift", 2: "roof"}
DATE = "2026-11-27T08:15:30.250+01:00"
SECONDS = 1795763730.25


def set_profile(service: Service, **changes: Any) -> TLiftProfile:
    profiles = service.active.model.profiles
    profiles["mall"] = replace(profiles["mall"], **changes)
    return profiles["mall"]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Open a service whose target mall has cameras by name and dates, and whose station has neither."""
    service = small_service(tmp_path)
    set_profile(service, cameras=NAMES, time_origin=UNIX_EPOCH)
    return service


def load_version(service: Service, folder: Path, **changes: Any) -> None:
    model = small_model(folder)
    model.profiles["mall"] = replace(model.profiles["mall"], **changes)
    switch_version(service, "2", model)


def web(service: Service) -> TestClient:
    return TestClient(create_app(service, None, 10_000, "127.0.0.1"), base_url="http://127.0.0.1")


def sighting(seed: int, **more: object) -> dict[str, object]:
    return {"image": text(crop(seed)), "camid": 0, **more}


def search_all(service: Service, only: Limits = ANY) -> list[tuple[int, str | None, str | None]]:
    (matches,) = service.search("mall", [Query([crop(0)])], only, 50).results
    return sorted((match.camid, match.camera, match.track) for match in matches)


def test_a_camera_by_name_or_number_is_answered_by_both_with_its_track(service: Service) -> None:
    client = web(service)
    sightings = [sighting(0, camid="roof", time_s=DATE, track="t 1"), sighting(1, camid=1, time_s=SECONDS)]
    assert client.post(f"{MALL}/sightings", json={"sightings": sightings}).status_code == 201
    listed = client.get(f"{MALL}/sightings").json()["sightings"]
    shown = [{name: row[name] for name in ("camid", "camera", "time_s", "track")} for row in listed]
    assert shown == [
        {"camid": 2, "camera": "roof", "time_s": SECONDS, "track": "t 1"},
        {"camid": 1, "camera": "lift", "time_s": SECONDS, "track": None},
    ]
    assert client.get(f"{MALL}/sightings/1").json()["camera"] == "roof"
    query = {"image": text(crop(2)), "camid": "hall", "time_s": DATE}
    body = {"queries": [query], "camids": ["roof"], "from_s": DATE, "to_s": DATE}
    (match,) = client.post(f"{MALL}/search", json=body).json()["results"][0]
    assert (match["camid"], match["camera"], match["track"]) == (2, "roof", "t 1") and match["lifted"] is not None
    later = {**body, "from_s": "2026-11-27T07:15:31Z", "to_s": None}
    assert client.post(f"{MALL}/search", json=later).json()["results"] == [[]]


def test_a_targets_names_of_cameras_and_origin_of_times_are_listed(service: Service) -> None:
    targets = {target["name"]: target for target in web(service).get("/v1/targets").json()["targets"]}
    assert (targets["mall"]["cameras"], targets["mall"]["time_origin"]) == ([0, 1, 2], UNIX_EPOCH)
    assert targets["mall"]["camera_names"] == {str(camid): name for camid, name in NAMES.items()}
    assert (targets["station"]["camera_names"], targets["station"]["time_origin"]) == ({}, "")


@pytest.mark.parametrize(
    ("target", "value", "status", "message"),
    [
        ("mall", {"camid": "garage"}, 404, "camid: mall has no camera ['garage']; it has ['hall', 'lift', 'roof']"),
        ("mall", {"camid": 7}, 404, "camid: mall has no camera [7]; it has ['hall', 'lift', 'roof']"),
        ("station", {"camid": "hall"}, 422, "camid: station has cameras by number, got a name; it has [0, 1, 2]"),
        ("station", {"time_s": DATE}, 422, "time_s: must be seconds on the clocks of the cameras of station, got a"),
        (
            "mall",
            {"time_s": "2026-11-27T08:15:30"},
            422,
            "body.sightings.0.time_s: Value error, must be a number of",
        ),
        ("mall", {"time_s": 10**400}, 422, "body.sightings.0.time_s: Value error, time must be seconds from"),
        (
            "mall",
            {"camid": " lift"},
            422,
            "body.sightings.0.camid: Value error, must be a camera's number in 0..9,999",
        ),
        ("mall", {"track": ""}, 422, "body.sightings.0.track: Value error, must have 1 to 100 printable characters"),
    ],
)
def test_a_camera_time_or_track_that_the_target_cannot_have_is_refused_by_name(
    service: Service, target: str, value: dict[str, object], status: int, message: str
) -> None:
    answer = web(service).post(f"/v1/targets/{target}/sightings", json={"sightings": [sighting(0, **value)]})
    assert answer.status_code == status and answer.json()["detail"].startswith(message)
    assert service.records.count() == 0


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        (Query([crop(0)], camid="garage"), ANY),
        (Query([crop(0)]), Limits(camids=frozenset(["garage"]))),
    ],
)
def test_a_search_by_a_name_that_the_target_lacks_is_refused(service: Service, query: Query, limits: Limits) -> None:
    with pytest.raises(LookupError, match=r"mall has no camera \['garage'\]"):
        service.search("mall", [query], limits, 5)


def test_a_champion_that_numbers_cameras_differently_finds_them_by_name(service: Service, tmp_path: Path) -> None:
    service.enrol("mall", [NewSighting(crop(0), "hall"), NewSighting(crop(1), 1), NewSighting(crop(2), "roof")])
    assert search_all(service) == [(0, "hall", None), (1, "lift", None), (2, "roof", None)]
    load_version(service, tmp_path / "new", cameras={0: "garage", 1: "hall", 2: "lift"})
    names = [(-1, "roof", None), (1, "hall", None), (2, "lift", None)]
    assert search_all(service) == names
    assert search_all(service, Limits(camids=frozenset(["lift"]))) == [(2, "lift", None)]
    assert [sighting.camid for sighting in service.page("mall", 0, 5)] == [1, 2, -1]
    restarted = Service(service.records, SETTINGS, "2", service.active.model)
    assert search_all(restarted) == names


def test_a_camera_whose_name_the_champion_lacks_is_matched_without_time_and_that_is_logged(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = service.enrol("mall", [NewSighting(crop(seed), "roof", DATE) for seed in range(2)]).ids
    load_version(service, tmp_path / "new", cameras={0: "garage", 1: "hall", 2: "lift"})
    assert "mall: the profile of version 2 lacks the cameras ['roof']" in caplog.text
    (match,) = service.search("mall", [Query(sighting=ids[0])], ANY, 5).results[0]
    assert match.lifted is None
    answer = web(service).post(f"{MALL}/search", json={"queries": [{"sighting": ids[0]}]}).json()["results"][0][0]
    assert (answer["camid"], answer["camera"]) == (None, "roof")


def test_numbers_that_were_stored_become_names_where_a_table_gets_names(service: Service, tmp_path: Path) -> None:
    set_profile(service, cameras={}, time_origin="")
    service.enrol("mall", [NewSighting(crop(seed), seed) for seed in range(3)])
    load_version(service, tmp_path / "new", cameras={0: "1", 1: "2", 2: "roof"})
    assert search_all(service) == [(-1, None, None), (0, "1", None), (1, "2", None)]


def test_an_equal_sighting_is_stored_once_however_its_camera_and_time_are_written(
    service: Service, tmp_path: Path
) -> None:
    first = NewSighting(crop(0), "lift", DATE, track="t")
    (stored,) = service.enrol("mall", [first]).ids
    assert service.enrol("mall", [replace(first, camid=1, time_s=SECONDS)]).ids == [stored]
    load_version(service, tmp_path / "new", cameras={0: "garage", 1: "hall", 2: "lift"}, time_origin=UNIX_EPOCH)
    assert service.enrol("mall", [first]).ids == [stored]
    assert service.enrol("mall", [replace(first, track="u"), replace(first, camid="hall")]).known == 0


@pytest.mark.parametrize("names", [{}, NAMES, {0: "3", 1: "hall", 2: "attic"}])
def test_a_table_of_sightings_has_the_cameras_that_each_sighting_has(service: Service, names: dict[int, str]) -> None:
    profile = set_profile(service, cameras=names)
    cameras = [(3, None), (0, "hall"), (2, "hall"), (0, None), (1, "3"), (2, "attic"), (0, "hall")]
    table = number_cameras(profile, pd.DataFrame(cameras, columns=["camid", "camera"], dtype=object))
    stored = [Sighting(0, "mall", camid, None, None, 0.0, camera) for camid, camera in cameras]
    numbered = [number_camera(profile, sighting) for sighting in stored]
    assert table["camid"].tolist() == [sighting.camid for sighting in numbered]
    assert table["camera"].tolist() == [sighting.camera for sighting in numbered]
    assert table["place"].tolist() == [0, 1, 1, 2, 3, 4, 1]  # a profile fitted again may number one name differently
