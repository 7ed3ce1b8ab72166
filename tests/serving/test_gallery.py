"""A gallery's shortlist against full matching, both written out plainly."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.storage import Sighting

CHANNELS, HEIGHT = 16, 6
PEOPLE, CAMERAS, TIMES = 40, 3, 5


class PlainModel:
    """QAConv's score with equal weights for all locations."""

    def __init__(self, width: int) -> None:
        weights = np.full(HEIGHT * width, 0.5, dtype=np.float32)
        self.head = Head(weights, weights, 0.0, 0.0)

    def score(self, query_maps: NDArray, gallery_maps: NDArray) -> NDArray[np.float32]:
        queries, gallery = (maps.reshape(*maps.shape[:2], -1).astype(np.float32) for maps in (query_maps, gallery_maps))
        cosines = np.einsum("qcs,gct->qgst", queries, gallery)
        return cosines.max(axis=2) @ self.head.gallery + cosines.max(axis=3) @ self.head.query


def draw_maps(width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps of the queries, one a person, and of a gallery that has CAMERAS * TIMES of each person, person by person."""
    rng = np.random.default_rng(0)
    people = rng.standard_normal((PEOPLE, CHANNELS, HEIGHT, width))
    gallery = np.repeat(people, CAMERAS * TIMES, axis=0)
    queries, gallery = (maps + 0.7 * rng.standard_normal(maps.shape) for maps in (people, gallery))
    return tuple((maps / np.linalg.norm(maps, axis=1, keepdims=True)).astype(np.float32) for maps in (queries, gallery))


def filled_gallery(maps: NDArray[np.float32]) -> Gallery:
    gallery = Gallery(len(maps), maps.shape[1:])
    gallery.add([Sighting(at, "mall", at % CAMERAS, float(at), None, 0.0) for at in range(len(maps))], maps)
    return gallery


@pytest.mark.parametrize("only", [Filter(), Filter(camids=frozenset([1])), Filter(from_s=100, to_s=400)])
def test_a_shortlist_of_maps_of_one_column_is_the_best_of_full_matching(only: Filter) -> None:
    queries, maps = draw_maps(width=1)
    model, gallery = PlainModel(width=1), filled_gallery(maps)
    everything = gallery.search(model, queries[0], only, len(maps))
    best = everything.ids[np.argsort(-everything.logits)][:20]
    assert len(everything.ids) > 100
    assert sorted(gallery.search(model, queries[0], only, 20).ids) == sorted(best)


def test_a_shortlist_of_a_tenth_holds_nine_in_ten_of_the_best_ten_of_full_matching() -> None:
    queries, maps = draw_maps(width=3)
    model, gallery = PlainModel(width=3), filled_gallery(maps)
    kept = []
    for query in queries:
        everything = gallery.search(model, query, Filter(), len(maps))
        best = everything.ids[np.argsort(-everything.logits)][:10]
        shortlist = gallery.search(model, query, Filter(), len(maps) // 10)
        assert len(shortlist.ids) == len(maps) // 10
        kept.append(np.isin(best, shortlist.ids).mean())
    assert np.mean(kept) > 0.9


def test_a_shortlist_passes_on_cameras_times_and_logits_of_the_sightings_it_names() -> None:
    queries, maps = draw_maps(width=3)
    model = PlainModel(width=3)
    found = filled_gallery(maps).search(model, queries[0], Filter(), 30)
    assert found.camids.tolist() == (found.ids % CAMERAS).tolist() and found.times.tolist() == found.ids.tolist()
    expected = model.score(queries[:1], maps[found.ids].astype(np.float16))[0]
    np.testing.assert_array_equal(found.logits, expected)
