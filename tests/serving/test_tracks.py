"""Several crops are one query, and the sightings of a track are one answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from qaconv.runtime.tracks import number_tracks, score_tracks
from qaconv.serving.app import create_app
from qaconv.serving.gallery import Candidates, Filter
from qaconv.serving.messages import Match, NewSighting, Query
from qaconv.serving.schemas import MOST_CROPS
from qaconv.serving.service import Service
from qaconv.tlift.probability import GallerySize
from tests.serving.test_bounds import large_image
from tests.serving.test_ranking import with_match_odds
from tests.small_service import ANY, SETTINGS, calibrate_gently, crop, enrol, small_service, text

MALL = "/v1/targets/mall"
FIELDS = ("id", "camid", "time_s", "score", "probability", "match", "lifted")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return small_service(tmp_path)


@pytest.fixture
def web(service: Service) -> TestClient:
    return TestClient(create_app(service, None, 10**9, "127.0.0.1"), base_url="http://127.0.0.1")


def enrol_tracks(service: Service, *tracks: str | None, camid: int = 0) -> list[int]:
    """Enrol a crop for each name of a track, 10 s apart."""
    sightings = [NewSighting(crop(row), camid, 10.0 * row, None, track) for row, track in enumerate(tracks)]
    return service.enrol("mall", sightings).ids


def table(service: Service, seeds: range, count: int) -> NDArray[np.float32]:
    """Match crops with the stored forms of the crops 0 to `count`."""
    model = service.active.model
    queries, gallery = (
        service._encoder.encode_to_store(model, [crop(seed) for seed in part], [0] * len(part))
        for part in (seeds, range(count))
    )
    return model.matcher.table(model.matcher.prepare(queries), gallery)


def search(service: Service, seeds: range, **more: Any) -> list[Match]:
    (matches,) = service.search("mall", [Query([crop(seed) for seed in seeds], **more)], ANY, 50).results
    return matches


def rank_without_tracks(service: Service, seed: int, camid: int | None, time_s: float | None) -> list[tuple[Any, ...]]:
    """Rank sightings by their own logits, each for itself."""
    model, gallery = service.active.model, service.active.galleries["mall"]
    candidates = gallery.search(model, service._encoder.encode(model, [crop(seed)], [0]), Filter(), 51)
    place = (
        [-1 if camid is None else camid],
        [np.nan if time_s is None else time_s],
        candidates.camids,
        candidates.times,
    )
    stated = model.state("mall", candidates.logits, *place, gallery=candidates.searched)
    lifted = None if time_s is None else model.lift("mall", candidates.logits, *place)
    order = np.lexsort((candidates.ids, -(candidates.logits if lifted is None else lifted)[0]))
    return [
        (
            int(candidates.ids[row]),
            int(candidates.camids[row]),
            float(candidates.times[row]),
            float(candidates.logits[0, row]),
            float(stated.probabilities[0, row]),
            bool(stated.probabilities[0, row] > stated.threshold),
            None if lifted is None else float(lifted[0, row]),
        )
        for row in order[:50]
    ]


@pytest.mark.parametrize(("camid", "time_s", "has_odds"), [(0, 70.0, False), (None, None, False), (None, None, True)])
def test_without_tracks_every_number_is_that_of_its_pair(
    tmp_path: Path, camid: int | None, time_s: float | None, has_odds: bool
) -> None:
    service = small_service(tmp_path, SETTINGS.model_copy(update={"shortlist": 20}))
    enrol(service, 60)
    if has_odds:
        with_match_odds(service.active.model)
    matches = search(service, range(100, 101), camid=camid, time_s=time_s)
    expected = rank_without_tracks(service, 100, camid, time_s)
    assert [tuple(getattr(match, field) for field in FIELDS) for match in matches] == expected
    assert [match.sightings for match in matches] == [[match.id] for match in matches]


def test_several_crops_and_a_track_have_the_tracks_score_and_the_probability_of_their_mean(service: Service) -> None:
    ids = enrol_tracks(service, "a", None, "a", "b", "a", "b", None)
    calibrate_gently(service.active.model)
    logits = table(service, range(100, 103), len(ids))
    matches = search(service, range(100, 103))
    columns = [[row for row, known in enumerate(ids) if known in match.sightings] for match in matches]
    assert sorted(columns) == [[0, 2, 4], [1], [3, 5], [6]]
    scores = score_tracks(logits, np.zeros(3, dtype=np.int64), number_tracks(["a", "", "a", "b", "a", "b", ""]))[0]
    expected = {1: scores[0], 2: scores[1], 4: scores[2], 7: scores[3]}
    assert {min(match.sightings): match.score for match in matches} == pytest.approx(expected)
    assert [match.score for match in matches] == sorted((match.score for match in matches), reverse=True)
    for match, rows in zip(matches, columns, strict=True):
        mean = logits[:, rows].astype(np.float64).mean()
        assert match.probability == pytest.approx(float(service.active.model.probability(mean)))
        best = logits[:, [ids.index(one) for one in match.sightings]].max(axis=0)
        assert best.tolist() == sorted(best, reverse=True)
        assert match.id == match.sightings[0] and match.time_s == 10.0 * ids.index(match.id)


def test_the_best_sighting_of_a_track_is_the_best_for_any_crop(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = np.array(["a", "a"], dtype=np.object_)
    candidates = Candidates(
        ids=np.array([1, 2]),
        camids=np.array([0, 0]),
        cameras=np.array([None, None]),
        tracks=track,
        times=np.array([10.0, 20.0]),
        logits=np.array([[1.0, 2.0], [5.0, 0.0]], dtype=np.float32),
        searched=GallerySize(2, 10.0),
    )
    monkeypatch.setattr(service.active.galleries["mall"], "search", lambda *_: candidates)
    (match,) = search(service, range(100, 102))
    assert (match.id, match.sightings, match.time_s, match.score) == (1, [1, 2], 10.0, 3.5)


def test_top_k_counts_tracks(service: Service) -> None:
    enrol_tracks(service, *["a"] * 5, *["b"] * 5, None)
    everything = search(service, range(100, 101))
    (two,) = service.search("mall", [Query([crop(100)])], ANY, 2).results
    assert len(everything) == 3 and two == everything[:2]


def test_cameras_may_use_one_name_for_different_tracks(service: Service) -> None:
    first, second = enrol_tracks(service, "1", "1"), enrol_tracks(service, "1", "1", camid=1)
    assert sorted(sorted(match.sightings) for match in search(service, range(100, 101))) == [first, second]


def test_a_stored_sighting_counts_in_no_answer_of_its_own_track(service: Service) -> None:
    ids = enrol_tracks(service, "a", "a", "a")
    (matches,) = service.search("mall", [Query(sighting=ids[0])], ANY, 5).results
    (match,) = matches
    assert sorted(match.sightings) == ids[1:]


def test_one_crop_as_images_is_answered_as_image(service: Service, web: TestClient) -> None:
    enrol(service, 9)
    place = {"camid": 0, "time_s": 30.0}
    queries = [{"image": text(crop(100)), **place}, {"images": [text(crop(100))], **place}]
    one, other = web.post(f"{MALL}/search", json={"queries": queries}).json()["results"]
    assert one == other and len(one) == 9


def test_every_crop_counts_as_a_query(service: Service, web: TestClient) -> None:
    enrol(service, 1)
    crops = {"images": [text(crop(seed)) for seed in range(16)]}
    allowed = [*[crops] * (MOST_CROPS // 16 - 1), *[{"sighting": 1}] * 8, *[{"image": text(crop(0))}] * 8]
    assert web.post(f"{MALL}/search", json={"queries": allowed}).status_code == 200
    refused = web.post(f"{MALL}/search", json={"queries": [*allowed, {"sighting": 1}]})
    assert refused.status_code == 422
    assert "must have at most 64 crops and sightings together, got 65" in refused.json()["detail"]


@pytest.mark.parametrize("count", [0, 17])
def test_a_query_has_1_to_16_crops(web: TestClient, count: int) -> None:
    assert web.post(f"{MALL}/search", json={"queries": [{"images": [text(crop(0))] * count}]}).status_code == 422


def test_the_pixels_of_all_crops_count(web: TestClient) -> None:
    answer = web.post(f"{MALL}/search", json={"queries": [{"images": [large_image()] * 9}]})
    assert answer.json() == {"detail": "the images of a request must have at most 32,000,000 pixels together"}


def test_a_result_is_explained_by_one_crop_alone(service: Service, web: TestClient) -> None:
    enrol(service, 1)
    query = {"images": [text(crop(0))]}
    assert web.post(f"{MALL}/explain", json={"query": query, "sighting": 1}).status_code == 422
