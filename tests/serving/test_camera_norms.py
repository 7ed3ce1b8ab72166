"""The service encodes each crop with the batch norms of its camera, where the version has such."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.runtime.correspondences import correspondences
from qaconv.runtime.model import ServedModel
from qaconv.serving.messages import NewSighting, Query
from qaconv.serving.places import NotFound
from qaconv.serving.replication.copying import apply_changes
from qaconv.serving.replication.history import find_end
from qaconv.serving.replication.messages import Changes, CopiedSighting, Ids
from qaconv.serving.service import Service
from qaconv.serving.storage import Records
from qaconv.serving.stored_maps import quantise_maps
from tests.camera_version import CLEAR, DARK, PEOPLE, RED, TARGET, files_of, seen_by
from tests.small_service import ANY, SETTINGS, small_service, switch_version

NAMES = {CLEAR: "hall", DARK: "cellar", RED: "bar"}


@pytest.fixture
def model(camera_version: Path) -> ServedModel:
    return ServedModel(camera_version, threads=1)


@pytest.fixture
def service(model: ServedModel, tmp_path: Path) -> Service:
    return Service(Records(tmp_path / "own"), SETTINGS, "1", model)


def enrol(service: Service, *camids: int, target: str = TARGET) -> list[int]:
    """Enrol all people on each camera, one camera after the other for each person."""
    files = zip(*(files_of(camid) for camid in camids), strict=True)
    sightings = [NewSighting(file, camid) for seen in files for file, camid in zip(seen, camids, strict=True)]
    return service.enrol(target, sightings).ids


def stored(service: Service, model: ServedModel, ids: list[int]) -> NDArray[np.int8]:
    found, maps = service.records.maps_of(ids, model.encoder_digest, model.map_shape)
    assert found == ids
    return maps.codes


def expected(model: ServedModel, seen: int, camid: int) -> NDArray[np.int8]:
    """The maps of what one camera saw, with the batch norms of any camera."""
    return quantise_maps(model.encode(seen_by(seen), [camid] * PEOPLE)).codes


def assert_equal(maps: NDArray[np.int8], others: NDArray[np.int8]) -> None:
    """ONNX Runtime may sum a batch of another size in another order."""
    assert np.abs(maps.astype(int) - others).max() <= 1


def test_an_enrolled_crop_is_stored_as_its_camera_encodes_it(service: Service, model: ServedModel) -> None:
    ids = enrol(service, DARK, CLEAR, RED)
    for number, camid in enumerate((DARK, CLEAR, RED)):
        assert_equal(stored(service, model, ids[number::3]), expected(model, camid, camid))
    assert np.abs(expected(model, DARK, DARK).astype(int) - expected(model, DARK, RED)).max() > 50
    assert_equal(expected(model, CLEAR, CLEAR), expected(model, CLEAR, -1))  # has the norms of all


def share_found(service: Service, ids: list[int], camid: int | None) -> float:
    """Share of the people on DARK whose best match is their sighting among `ids`, if the queries name a camera."""
    queries = [Query([file], camid=camid) for file in files_of(DARK)]
    results = service.search(TARGET, queries, ANY, 1).results
    return float(np.mean([match.id == sighting for (match,), sighting in zip(results, ids, strict=True)]))


def test_a_query_finds_its_person_by_its_own_camera_and_not_without_one_or_by_another(service: Service) -> None:
    ids = enrol(service, RED)
    assert share_found(service, ids, DARK) > 0.9
    assert share_found(service, ids, None) < 0.3 and share_found(service, ids, RED) < 0.3


def test_each_query_has_its_own_camera_and_all_its_crops_have_it(service: Service) -> None:
    enrol(service, RED)
    first, second = files_of(DARK)[:2]

    def search(*queries: Query) -> list[dict[int, float]]:
        results = service.search(TARGET, queries, ANY, PEOPLE).results
        return [{match.id: match.score for match in matches} for matches in results]

    queries = Query([first], camid=CLEAR), Query([first, second], camid=DARK), Query([second], camid=RED)
    clear, both, red = search(*queries)
    assert [clear, both, red] == [pytest.approx(search(query)[0], abs=0.01) for query in queries]
    one, other = search(Query([first], camid=DARK), Query([second], camid=DARK))
    pairs = {sighting: (one[sighting], other[sighting]) for sighting in both}
    assert both == pytest.approx({name: (np.mean(pair) + max(pair)) / 2 for name, pair in pairs.items()}, abs=0.01)


def test_a_result_is_explained_by_the_maps_of_its_cameras(service: Service, model: ServedModel) -> None:
    ids = enrol(service, RED)
    pairs = service.explain(TARGET, Query(files_of(DARK)[:1], camid=DARK), ids[0], 5)
    query = model.encode(seen_by(DARK)[:1], [DARK])[0]
    gallery = service.active.map_of(service.records, ids[0])
    for pair, other in zip(pairs, correspondences(query, gallery, model.head, 5), strict=True):
        assert pair.share == pytest.approx(other.share, abs=1e-4)
    with pytest.raises(NotFound, match=r"mall has no camera \[7\]"):
        service.explain(TARGET, Query(files_of(DARK)[:1], camid=7), ids[0], 5)


def test_crops_encoded_for_a_new_version_are_those_enrolled_with_it(
    service: Service, model: ServedModel, tmp_path: Path
) -> None:
    other = small_service(tmp_path)  # its version knows no cameras
    ids = enrol(other, DARK, CLEAR, RED)
    of_other_target = enrol(other, DARK, target="station")
    switch_version(other, "2", model)
    assert_equal(stored(other, model, ids), stored(service, model, enrol(service, DARK, CLEAR, RED)))
    assert_equal(stored(other, model, of_other_target), expected(model, DARK, -1))  # the number is no camera of mall


def test_a_camera_that_has_another_number_in_a_new_version_is_encoded_by_that(
    model: ServedModel, tmp_path: Path
) -> None:
    service = small_service(tmp_path)
    profiles = service.active.model.profiles
    profiles[TARGET] = replace(profiles[TARGET], cameras={0: "bar", 1: "cellar", 2: "attic"})
    named = [NewSighting(file, "bar") for file in files_of(RED)]
    ids = service.enrol(TARGET, named).ids
    gone = service.enrol(TARGET, [NewSighting(file, "attic") for file in files_of(DARK)]).ids
    model.profiles[TARGET] = replace(model.profiles[TARGET], cameras=NAMES)
    switch_version(service, "2", model)
    assert_equal(stored(service, model, ids), expected(model, RED, RED))
    assert_equal(stored(service, model, gone), expected(model, DARK, -1))  # its number is that of the bar now


def test_a_follower_encodes_each_crop_for_its_camera_while_the_leader_has_another_version(
    service: Service, model: ServedModel
) -> None:
    crops = [(camid, file) for camid in (DARK, RED) for file in files_of(camid)]
    rows = tuple(
        CopiedSighting(number, TARGET, camid, None, None, 0.0, None, None, file, None)
        for number, (camid, file) in enumerate(crops, start=1)
    )
    end = find_end(service.records)
    changes = Changes(
        gallery=end.gallery, start=end.start, sighting=len(rows), deletion=0, deleted=(), sightings=rows,
        encoder="another", last=len(rows), is_all=True, version="2", site=None,
    )  # fmt: skip
    apply_changes(service, changes, lambda after: Ids(ids=()))
    maps = stored(service, model, [row.id for row in rows])
    assert_equal(maps, np.concatenate([expected(model, camid, camid) for camid in (DARK, RED)]))
