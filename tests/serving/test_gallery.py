"""A gallery's shortlist against full matching, with plain implementations of both."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.matcher import cpu_matcher
from qaconv.runtime.shortlist import RowScorer
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.storage import Sighting

CHANNELS, HEIGHT = 16, 6
PEOPLE, CAMERAS, TIMES = 40, 3, 5


class SmallModel:
    """Equal weights for all locations, and no bias."""

    def __init__(self, width: int) -> None:
        weights = np.full(HEIGHT * width, 0.5, dtype=np.float32)
        self.head = Head(weights, weights, 0.0, map_shape=(CHANNELS, HEIGHT, width))
        self.matcher = cpu_matcher(self.head)
        self.row_scorer = RowScorer(self.head)


def plain_scores(query: NDArray[np.float32], gallery: NDArray[np.floating]) -> NDArray[np.float32]:
    """QAConv with weights of a half, for a map [C, h, w] and maps [G, C, h, w]."""
    locations = gallery.reshape(*gallery.shape[:2], -1).astype(np.float32)
    cosines = np.einsum("cs,gct->gst", query.reshape(len(query), -1), locations)
    scores: NDArray[np.float32] = 0.5 * (cosines.max(axis=1).sum(axis=1) + cosines.max(axis=2).sum(axis=1))
    return scores


def draw_maps(width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw maps of one query a person, and of a gallery with CAMERAS * TIMES of each person, person by person."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((PEOPLE, CHANNELS, HEIGHT, width))
    queries = people + 0.7 * rng.standard_normal(people.shape)
    copies = np.repeat(people, CAMERAS * TIMES, axis=0)
    gallery = copies + 0.7 * rng.standard_normal(copies.shape)
    return to_unit_length(queries), to_unit_length(gallery)


def to_unit_length(maps: NDArray[np.float64]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(maps, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (maps / lengths).astype(np.float32)
    return unit


def filled_gallery(maps: NDArray[np.float32]) -> Gallery:
    _, channels, height, width = maps.shape
    gallery = Gallery(len(maps), (channels, height, width))
    sightings = [Sighting(row, "mall", row % CAMERAS, float(row), None, 0.0) for row in range(len(maps))]
    gallery.add(sightings, maps)
    return gallery


@pytest.mark.parametrize("only", [Filter(), Filter(camids=frozenset([1])), Filter(from_s=100, to_s=400)])
def test_a_shortlist_of_maps_of_one_column_is_the_best_of_full_matching(only: Filter) -> None:
    queries, maps = draw_maps(width=1)
    model, gallery = SmallModel(width=1), filled_gallery(maps)
    everything = gallery.search(model, queries[:1], only, len(maps))
    best = everything.ids[np.argsort(-everything.logits[0])][:20]
    assert len(everything.ids) > 100
    assert sorted(gallery.search(model, queries[:1], only, 20).ids) == sorted(best)


def test_a_shortlist_of_a_tenth_holds_nine_in_ten_of_the_best_ten_of_full_matching() -> None:
    queries, maps = draw_maps(width=3)
    model, gallery = SmallModel(width=3), filled_gallery(maps)
    kept = []
    for query in queries:
        best = np.argsort(-plain_scores(query, maps))[:10]
        shortlist = gallery.search(model, query[None], Filter(), len(maps) // 10)
        assert len(shortlist.ids) == len(maps) // 10
        kept.append(np.isin(best, shortlist.ids).mean())
    assert np.mean(kept) > 0.9


def test_a_shortlist_has_the_cameras_times_and_full_scores_of_its_sightings() -> None:
    queries, maps = draw_maps(width=3)
    candidates = filled_gallery(maps).search(SmallModel(width=3), queries[:1], Filter(), 30)
    assert candidates.camids.tolist() == (candidates.ids % CAMERAS).tolist()
    assert candidates.times.tolist() == candidates.ids.tolist()
    expected = plain_scores(queries[0], maps[candidates.ids].astype(np.float16))
    np.testing.assert_allclose(candidates.logits[0], expected, atol=1e-5)


def test_row_scores_are_those_of_maps_averaged_over_their_width() -> None:
    queries, maps = draw_maps(width=3)
    gallery = filled_gallery(maps)
    locations = np.ascontiguousarray(queries[:2].reshape(2, CHANNELS, -1).transpose(0, 2, 1))
    scores = SmallModel(width=3).row_scorer.score(locations, gallery._rows[: len(gallery)])
    query_rows = to_unit_length(queries[:2].mean(axis=3, keepdims=True))
    rows = to_unit_length(maps.astype(np.float16).astype(np.float64).mean(axis=3, keepdims=True))
    expected = [3 * plain_scores(query, rows) for query in query_rows]
    np.testing.assert_allclose(scores, expected, atol=2e-2)
