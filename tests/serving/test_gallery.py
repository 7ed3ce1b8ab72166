"""A gallery's shortlist against full matching, with a plain implementation."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.matcher import cpu_matcher
from qaconv.runtime.quantise import Codes, dequantise
from qaconv.runtime.shortlist import LANDMARKS, Landmarks
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.map_cache import MapCache
from qaconv.serving.storage import Sighting
from qaconv.serving.stored_maps import quantise_maps

SHAPE = CHANNELS, HEIGHT, WIDTH = 16, 6, 2
PEOPLE, CAMERAS, TIMES = 80, 3, 5


class SmallModel:
    """Equal weights for all locations, and no bias."""

    def __init__(self) -> None:
        weights = np.full(HEIGHT * WIDTH, 0.5, dtype=np.float32)
        self.matcher = cpu_matcher(Head(weights, weights, 0.0, map_shape=SHAPE))


def plain_scores(query: NDArray[np.float32], gallery: NDArray[np.float32]) -> NDArray[np.float32]:
    """QAConv with weights of a half, for a map [S, C] and maps [G, S, C]."""
    cosines = np.einsum("sc,gtc->gst", query, gallery)
    scores: NDArray[np.float32] = 0.5 * (cosines.max(axis=1).sum(axis=1) + cosines.max(axis=2).sum(axis=1))
    return scores


def draw_maps() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw maps of one query a person, and of a gallery with CAMERAS * TIMES of each person, in random order."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((PEOPLE, *SHAPE))
    queries = people + 0.7 * rng.standard_normal(people.shape)
    copies = np.repeat(people, CAMERAS * TIMES, axis=0)
    gallery = copies + 0.7 * rng.standard_normal(copies.shape)
    return to_unit_length(queries), to_unit_length(rng.permutation(gallery))


def to_unit_length(maps: NDArray[np.float64]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (maps / np.linalg.norm(maps, axis=1, keepdims=True)).astype(np.float32)
    return unit


class Stored:
    """Maps "on disk", by id from 1."""

    def __init__(self, maps: NDArray[np.float32]) -> None:
        self.codes = quantise_maps(maps)
        self.reads = 0

    def read(self, ids: Sequence[int]) -> tuple[list[int], Codes]:
        self.reads += len(ids)
        return list(ids), self.codes.take(np.array(ids, dtype=np.int64) - 1)


QUERIES, MAPS = draw_maps()


@pytest.fixture
def stored() -> Stored:
    return Stored(MAPS)


@pytest.fixture
def gallery(stored: Stored) -> Gallery:
    """A gallery whose first maps are landmarks, with a cache for a tenth of the maps."""
    gallery = Gallery(len(MAPS), MapCache(len(MAPS) // 10, SHAPE, stored.read))
    ids = np.arange(1, len(MAPS) + 1)
    gallery.add([Sighting(int(id_), "mall", int(id_) % CAMERAS, float(id_), None, 0.0) for id_ in ids])
    landmarks = Landmarks(SmallModel().matcher, stored.codes.take(slice(0, LANDMARKS)))
    gallery.use_landmarks(1, landmarks, ids[:LANDMARKS].tolist(), ids, landmarks.weigh(stored.codes))
    return gallery


def recall(gallery: Gallery, stored: Stored, shortlist: int) -> float:
    model, kept = SmallModel(), []
    for query in QUERIES:
        candidates = gallery.search(model, query[None], Filter(), shortlist)
        scores = plain_scores(dequantise(quantise_maps(query[None]))[0], dequantise(stored.codes))
        kept.append(np.isin(np.argsort(-scores)[:10] + 1, candidates.ids).mean())
    return float(np.mean(kept))


def test_a_shortlist_of_a_twentieth_holds_the_best_ten_of_full_matching(gallery: Gallery, stored: Stored) -> None:
    assert len(gallery.search(SmallModel(), QUERIES[:1], Filter(), len(MAPS) // 20).ids) == len(MAPS) // 20
    assert recall(gallery, stored, len(MAPS) // 20) > 0.98


def test_a_query_s_crops_share_a_shortlist_of_the_best_for_any_of_them(gallery: Gallery) -> None:
    shared = gallery.search(SmallModel(), QUERIES[:3], Filter(), 30)
    each = [gallery.search(SmallModel(), QUERIES[row : row + 1], Filter(), 30).ids for row in range(3)]
    assert shared.logits.shape == (3, 30)
    assert set(shared.ids) <= set(np.concatenate(each)) and all(set(shared.ids) & set(ids) for ids in each)


def test_vectors_keep_their_meaning_when_landmarks_are_deleted(gallery: Gallery, stored: Stored) -> None:
    gallery.remove(list(range(1, 21)))
    landmarks = gallery.landmarks
    assert landmarks is not None and len(landmarks) == LANDMARKS - 20
    new = sorted(gallery.ids().tolist())[-300:]
    gallery.add_vectors(1, new, landmarks.weigh(stored.read(new)[1]))
    assert recall(gallery, stored, len(MAPS) // 20) > 0.95


@pytest.mark.parametrize("only", [Filter(), Filter(camids=frozenset([1])), Filter(from_s=100, to_s=400)])
def test_a_shortlist_has_the_cameras_times_and_full_scores_of_its_sightings(
    only: Filter, gallery: Gallery, stored: Stored
) -> None:
    candidates = gallery.search(SmallModel(), QUERIES[:1], only, 30)
    assert len(candidates.ids) == 30
    assert candidates.camids.tolist() == (candidates.ids % CAMERAS).tolist()
    assert candidates.times.tolist() == candidates.ids.tolist()
    assert only.camids is None or set(candidates.camids) == only.camids
    assert only.to_s is None or (candidates.times.min() >= 100 and candidates.times.max() <= 400)
    query = dequantise(quantise_maps(QUERIES[:1]))[0]
    expected = plain_scores(query, dequantise(stored.codes)[candidates.ids - 1])
    np.testing.assert_allclose(candidates.logits[0], expected, atol=1e-4)


def test_sightings_without_a_vector_are_matched_in_full_in_addition(gallery: Gallery) -> None:
    before = set(gallery.search(SmallModel(), QUERIES[:1], Filter(), 30).ids.tolist())
    worst = [id_ for id_ in gallery.ids().tolist() if id_ not in before][:4]
    gallery.remove(worst)
    gallery.add([Sighting(id_, "mall", 0, None, None, 0.0) for id_ in worst])
    assert gallery.without_vector(10) == worst
    assert set(gallery.search(SmallModel(), QUERIES[:1], Filter(), 30).ids.tolist()) == before | set(worst)


def test_maps_are_read_from_disk_once_while_the_cache_holds_them(gallery: Gallery, stored: Stored) -> None:
    first = gallery.search(SmallModel(), QUERIES[:1], Filter(), 40)
    assert stored.reads == 40
    second = gallery.search(SmallModel(), QUERIES[:1], Filter(), 40)
    assert stored.reads == 40
    np.testing.assert_array_equal(np.sort(first.logits), np.sort(second.logits))
    for query in QUERIES[1:20]:
        gallery.search(SmallModel(), query[None], Filter(), 40)
    assert len(gallery.maps._slots) == len(MAPS) // 10


def test_a_map_that_is_deleted_while_it_is_read_is_not_kept(stored: Stored) -> None:
    def read(ids: Sequence[int]) -> tuple[list[int], Codes]:
        cache.remove([2])
        return stored.read(ids)

    cache = MapCache(10, SHAPE, read)
    positions, maps = cache.take([1, 2])
    assert positions.tolist() == [0, 1] and len(maps.codes) == 2 and not cache._slots


def test_a_search_whose_sightings_are_deleted_while_it_ranks_finds_the_others(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gallery.search(SmallModel(), QUERIES[:1], Filter(), 30).ids.tolist()
    rank, deleted = gallery._rank, iter(before)

    def rank_and_delete(crops: object, only: Filter, shortlist: int) -> NDArray[np.intp]:
        rows = rank(crops, only, shortlist)
        if not gallery._lock.locked():
            gallery.remove([next(deleted)])
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(gallery, "_rank", rank_and_delete)
        candidates = gallery.search(SmallModel(), QUERIES[:1], Filter(), 30)
    after = gallery.search(SmallModel(), QUERIES[:1], Filter(), 30)
    assert len(gallery) < len(MAPS) and not set(candidates.ids) & set(before[:1])
    assert set(candidates.ids) == set(after.ids)
