"""Every engine's logits are the head's for any size of tiles, and a search is the sorted table."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from qaconv.matching import logit_tiles, score_matrix, score_pairs, search, tiles
from qaconv.runtime import products
from qaconv.runtime.head import Head
from qaconv.runtime.locations import first_not_finite
from tests.random_heads import random_head


def make_maps(count: int, channels: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, channels, height, width, generator=generator), dim=1)


shapes = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
counts = st.integers(1, 7)


@settings(max_examples=30, deadline=None)
@given(shapes, counts, counts, st.integers(0, 2**31), st.integers(1, 4))
def test_exact_logits_are_the_heads_for_any_size_of_tiles(
    shape: tuple[int, int, int], queries: int, galleries: int, seed: int, images: int
) -> None:
    head, query_maps = random_head(*shape, seed), make_maps(queries, *shape, seed + 1)
    gallery_maps = make_maps(galleries, *shape, seed + 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BLOCK_BYTES", 4 * images * np.prod(shape))
        patch.setattr(products, "TABLE_BYTES", 4 * images)
        logits = score_matrix(query_maps, gallery_maps, head)
        mirrored = score_matrix(query_maps, query_maps, head)
    np.testing.assert_allclose(logits, head(query_maps, gallery_maps).detach(), atol=1e-4)
    np.testing.assert_allclose(mirrored, head(query_maps, query_maps).detach(), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(shapes, counts, counts, st.integers(0, 2**31))
def test_logits_of_8_bits_are_near_the_heads(
    shape: tuple[int, int, int], queries: int, galleries: int, seed: int
) -> None:
    head, query_maps = random_head(*shape, seed), make_maps(queries, *shape, seed + 1)
    gallery_maps = make_maps(galleries, *shape, seed + 2)
    weights = np.abs(head.folded().query).sum() + np.abs(head.folded().gallery).sum()
    logits = score_matrix(query_maps, gallery_maps, head, engine="int8")
    np.testing.assert_allclose(logits, head(query_maps, gallery_maps).detach(), atol=float(0.03 * weights))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 7), st.integers(1, 7))
def test_a_search_is_the_sorted_table_and_ties_keep_the_gallerys_order(
    order: list[int], top_k: int, images: int
) -> None:
    shape = (3, 2, 2)
    head, query_maps = random_head(*shape, seed=1), make_maps(4, *shape, seed=2)
    gallery_maps = make_maps(4, *shape, seed=3)[[0, 1, 2, 3, 0, 1, 2]][order]  # three ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BLOCK_BYTES", 4 * images * np.prod(shape))
        logits = score_matrix(query_maps, gallery_maps, head)
        found = search(query_maps, gallery_maps, head, top_k=top_k)
    expected = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    np.testing.assert_array_equal(found.indices, expected)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(logits, expected, axis=1))


def test_unknown_engine_is_rejected() -> None:
    maps = make_maps(1, 2, 1, 1, seed=1)
    head = random_head(2, 1, 1, seed=1)
    rows = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="unknown engine 'fast', allowed: exact, int8"):
        list(logit_tiles(maps, maps, head, engine="fast"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown engine 'fast', allowed: exact, int8"):
        score_pairs(maps, rows, rows, head, engine="fast")  # type: ignore[arg-type]


def test_no_images_have_an_empty_table() -> None:
    maps = make_maps(3, 2, 1, 1, seed=1)
    head = random_head(2, 1, 1, seed=1)
    for queries, gallery in ((maps[:0], maps[:0]), (maps[:0], maps), (maps, maps[:0])):
        assert score_matrix(queries, gallery, head).shape == (len(queries), len(gallery))
    none = maps[:0]
    assert score_matrix(none, none, head).shape == (0, 0)


def test_maps_of_another_size_are_rejected_by_name() -> None:
    maps = make_maps(2, 2, 2, 1, seed=1)
    with pytest.raises(ValueError, match=r"gallery_maps must have shape \[N, 2, 2, 1\], got \(2, 2, 1, 2\)"):
        score_matrix(maps, maps.transpose(2, 3), random_head(2, 2, 1, seed=1))
    rows = np.arange(2)
    with pytest.raises(ValueError, match=r"maps must have shape \[N, 2, 2, 1\], got \(2, 2, 1, 2\)"):
        score_pairs(maps.transpose(2, 3), rows, rows, random_head(2, 2, 1, seed=1))


def test_more_neighbours_than_images_are_rejected() -> None:
    maps = make_maps(2, 2, 2, 1, seed=1)
    with pytest.raises(ValueError, match=r"top_k must be in 1\.\.2 \(the gallery\'s size\), got 3"):
        search(maps, maps, random_head(2, 2, 1, seed=1), top_k=3)


def test_a_folded_head_of_another_number_of_locations_is_rejected() -> None:
    weights = np.ones(3, dtype=np.float32)
    maps = make_maps(2, 2, 2, 1, seed=1).numpy()
    with pytest.raises(ValueError, match=r"query_maps must have shape \[N, C, H, W\] with H \* W = 3, got"):
        score_matrix(maps, maps, Head(weights, weights, 0.0))


def test_a_folded_head_of_numbers_gives_the_logits_of_the_network_in_torch() -> None:
    shape = (5, 4, 3)
    network_head = random_head(*shape, seed=4)
    query_maps, gallery_maps = make_maps(3, *shape, seed=5), make_maps(4, *shape, seed=6)
    folded = network_head.folded()
    numbers = Head(folded.query, folded.gallery, folded.bias)
    logits = score_matrix(query_maps.numpy(), gallery_maps.numpy(), numbers)
    np.testing.assert_array_equal(logits, score_matrix(query_maps, gallery_maps, network_head))
    np.testing.assert_allclose(logits, network_head(query_maps, gallery_maps).detach(), atol=1e-5)


def test_lists_and_a_fraction_of_an_image_are_refused_by_name() -> None:
    maps = np.ones((2, 2, 2, 1), np.float32)
    head = random_head(2, 2, 1, seed=1)
    with pytest.raises(ValueError, match="query_maps must be an array, a tensor or a store of maps, got a list"):
        score_matrix(maps.tolist(), maps, head)
    with pytest.raises(ValueError, match=r"top_k must be in 1\.\.2 .* got 1\.5"):
        search(maps, maps, head, top_k=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["exact", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_maps_that_are_not_finite_are_refused_by_the_first_image(
    engine: tiles.Engine, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "BLOCK_BYTES", 2 * 4 * 12)  # so that the image is in the third block
    head = random_head(3, 2, 2, seed=1)
    sound = make_maps(7, 3, 2, 2, seed=2).numpy()
    wrong = sound.copy()
    wrong[5:, 1, 0, 1] = value
    rows = np.array([0, 6, 5])
    with pytest.raises(ValueError, match="^query_maps must be finite, got NaN or infinity in image 5$"):
        score_matrix(wrong, sound, head, engine=engine)
    with pytest.raises(ValueError, match="^gallery_maps must be finite, .* in image 5$"):
        search(sound, torch.from_numpy(wrong), head, top_k=2, engine=engine)
    with pytest.raises(ValueError, match="^gallery_maps must be finite, .* in image 5$"):
        score_matrix(wrong, wrong, head, engine=engine)
    with pytest.raises(ValueError, match="^maps must be finite, .* in image 5$"):
        score_pairs(wrong, rows[::-1], rows[::-1], head, engine=engine)
    with pytest.raises(ValueError, match="^maps must be finite, .* in image 5$"):
        score_pairs(wrong, rows[:1], rows[2:], head, engine=engine)


def test_finite_maps_whose_sum_is_too_large_for_a_float_are_finite() -> None:
    assert first_not_finite(np.full((2, 2, 2), 3e38, np.float32)) is None
    assert first_not_finite(np.empty((0, 2, 2), np.float32)) is None
