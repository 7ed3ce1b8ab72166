"""A shortlist's sizes are chosen by the gallery or by queries, and the images that it passes on are matched exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qaconv.matching import MapStore, Shortlist, search
from qaconv.matching.landmarks import Landmarks
from qaconv.matching.shortlist import _allowed_misses, _cheapest_sizes
from qaconv.matching.tiles import choose_matcher
from qaconv.models import QAConv
from qaconv.runtime.locations import as_locations
from qaconv.runtime.quantise import Block, Codes, quantise

SHAPE = (8, 6, 5)
HEAD = QAConv(*SHAPE)
torch.nn.init.zeros_(HEAD.weight.bias)


def make_maps(people: int, images: int, seed: int, noise: float = 1.0) -> Tensor:
    """Maps of some people, the same for each seed, each seen several times with noise that is the seed's own."""
    first = torch.randn(people, *SHAPE, generator=torch.Generator().manual_seed(0))
    maps = first.repeat_interleave(images, dim=0)
    return F.normalize(maps + noise * torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture(scope="module")
def gallery() -> Tensor:
    return make_maps(60, 5, seed=1)


@pytest.fixture(scope="module")
def shortlist(gallery: Tensor) -> Shortlist:
    return Shortlist(gallery, HEAD, top_k=4, recall=0.9, samples=60)


def test_no_queries_give_no_neighbours(shortlist: Shortlist) -> None:
    none = shortlist.search(make_maps(0, 1, seed=2))
    assert none.scores.shape == none.indices.shape == (0, 4)


def test_queries_of_another_shape_are_refused(shortlist: Shortlist) -> None:
    with pytest.raises(ValueError, match=r"query_maps must have shape \[N, 8, 6, 5\], got \(3, 8, 5, 6\)"):
        shortlist.search(make_maps(3, 1, seed=2).transpose(2, 3))


def test_maps_that_are_not_finite_are_refused_by_the_first_image(shortlist: Shortlist, gallery: Tensor) -> None:
    queries = make_maps(3, 1, seed=2)
    queries[1:, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="^query_maps must be finite, got NaN or infinity in image 1$"):
        shortlist.search(queries)
    with pytest.raises(ValueError, match="^queries must be finite, .* in image 1$"):
        Shortlist(gallery, HEAD, top_k=4, queries=queries)
    wrong = gallery.clone()
    wrong[7, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match="^gallery must be finite, .* in image 7$"):
        Shortlist(wrong, HEAD, top_k=4)


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_only_candidates_are_read_and_each_is_matched_with_its_queries(
    shortlist: Shortlist, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.matching.shortlist.READ_AT_ONCE", 3)
    queries = as_locations(make_maps(4, 1, seed=2).numpy())
    gallery = as_locations(make_maps(20, 1, seed=3).numpy())
    block: Block = quantise(gallery) if dtype == "int8" else gallery.astype(np.float16)
    candidates = np.array([[3, 17, 5], [5, 3, 4], [19, 18, 4], [5, 5, 0]])
    read: list[int] = []

    def take(images: NDArray[np.int64]) -> Block:
        read.extend(images.tolist())
        return block.take(images) if isinstance(block, Codes) else block[images]

    matcher = shortlist._matcher
    prepared = matcher.prepare(quantise(queries) if dtype == "int8" else queries)
    logits = shortlist._match_each(prepared, take, candidates)
    expected = matcher.table(prepared, block)
    np.testing.assert_array_equal(logits, np.take_along_axis(expected, candidates, axis=1))
    assert read == sorted({*candidates.ravel().tolist()})


def test_the_images_found_carry_their_exact_logits(gallery: Tensor, shortlist: Shortlist) -> None:
    queries = make_maps(3, 1, seed=2)
    found, exact = shortlist.search(queries), search(queries, gallery, HEAD, top_k=len(gallery))
    for row in range(3):
        logits = dict(zip(exact.indices[row], exact.scores[row], strict=True))
        np.testing.assert_allclose(found.scores[row], [logits[image] for image in found.indices[row]], atol=1e-4)
    assert (np.diff(found.scores) <= 0).all()


def test_the_sizes_hold_the_recall_on_the_samples_and_pass_on_less_in_8_bits(shortlist: Shortlist) -> None:
    found = shortlist.calibration
    assert 0.9 <= found.recall <= 1
    assert found.sizes == sorted(found.sizes, reverse=True) and found.sizes[-1] >= 4
    assert found.sizes[0] < 300
    curve = found.curve([1, 4, 20, 300])
    assert curve.shape == (2, 4) and (np.diff(curve) >= 0).all() and (curve[:, -1] == 1).all()


def test_sizes_chosen_by_queries_hold_for_other_queries_of_their_kind_and_the_gallerys_own_do_not() -> None:
    gallery, queries = make_maps(60, 5, seed=1, noise=0.5), make_maps(60, 4, seed=2, noise=2.5)
    samples, others = queries[::2], queries[1::2]
    exact = search(others, gallery, HEAD, top_k=4).indices
    recalls = []
    for chosen_by in (samples, None):
        found = Shortlist(gallery, HEAD, top_k=4, recall=0.95, queries=chosen_by).search(others).indices
        recalls.append(np.mean([len(set(one) & set(other)) / 4 for one, other in zip(found, exact, strict=True)]))
    assert recalls[0] > 0.9 and recalls[1] < 0.7


def test_levels_that_pass_on_everything_find_what_exact_search_finds(gallery: Tensor) -> None:
    everything = Shortlist(gallery, HEAD, top_k=4, recall=1.0, samples=len(gallery))
    queries = gallery[::7]
    exact = search(queries, gallery, HEAD, top_k=4)
    expected = [set(row) for row in exact.indices]
    found = [set(row) for row in everything.search(queries).indices]
    assert np.mean([len(one & other) for one, other in zip(found, expected, strict=True)]) >= 3.95  # each adds itself


def test_a_store_is_shortlisted_like_the_maps_in_it(tmp_path: Path, gallery: Tensor) -> None:
    store = MapStore.create(tmp_path, SHAPE, dtype="int8", model="a")
    for start in range(0, 300, 128):
        part = gallery[start : start + 128]
        store.append(part, [""] * len(part), np.zeros(len(part)), np.zeros(len(part)))
    arguments = {"top_k": 4, "recall": 0.9, "samples": 30}
    on_disk = Shortlist(store, HEAD, **arguments)  # type: ignore[arg-type]
    in_memory = Shortlist(store.block(0, 300), HEAD, **arguments)  # type: ignore[arg-type]
    assert on_disk.calibration.sizes == in_memory.calibration.sizes
    queries = make_maps(5, 1, seed=3)
    for one, other in zip(on_disk.search(queries), in_memory.search(queries), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sizes_chosen_by_the_gallerys_own_images_hold_for_others_of_their_kind(gallery: Tensor) -> None:
    """They would not if those images were among the teachers, whose logits the weights are fitted to."""
    own = Shortlist(gallery, HEAD, top_k=4, recall=0.95, samples=150)
    others = make_maps(60, 5, seed=4)
    found, exact = own.search(others).indices, search(others, gallery, HEAD, top_k=4).indices
    assert np.mean([len(set(one) & set(other)) / 4 for one, other in zip(found, exact, strict=True)]) > 0.95


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_estimates_are_the_logits_where_every_image_is_like_some_landmark(variant: str) -> None:
    """With v1 the query's side weighs otherwise than the gallery's, so that neither can stand for the other."""
    matcher = choose_matcher(QAConv(*SHAPE, variant=variant))  # type: ignore[arg-type]
    gallery, queries = (quantise(as_locations(make_maps(20, 1, seed).numpy())) for seed in (1, 2))
    repeated = gallery.take(np.tile(np.arange(20), 20))
    teachers = np.random.default_rng(0).permutation(400)
    prepared = matcher.prepare(queries)
    expected = matcher.table(prepared, repeated)
    landmarks = Landmarks(matcher, repeated.take(teachers))
    estimates = landmarks.estimate(prepared, landmarks.weights(repeated))
    np.testing.assert_allclose(estimates, expected, atol=1e-3, rtol=0)


def test_the_cheapest_sizes_lose_no_more_than_allowed() -> None:
    ranks = np.array([[1, 2, 3, 900, 5], [1, 2, 3, 4, 50], [1, 2, 3, 4, 5]])
    assert _cheapest_sizes(ranks, [1, 10, 100], 0)[1] == [900, 50, 5]
    assert _cheapest_sizes(ranks, [1, 100, 1000], 1)[1] == [900, 4, 4]  # the last image costs more at the later levels
    assert _cheapest_sizes(ranks, [10, 1, 1], 1)[1] == [5, 50, 5]
    assert _cheapest_sizes(ranks, [1, 10, 100], 2)[1] == [3, 3, 3]


def test_so_few_misses_are_allowed_that_a_recall_below_the_wish_would_seldom_show_as_few() -> None:
    draws = np.random.default_rng(0).binomial(4000, 0.002, size=20_000)  # misses of a recall that is just the wish
    allowed = _allowed_misses(4000, 0.998)
    assert (draws <= allowed).mean() < 0.05 < (draws <= allowed + 1).mean() + 0.01
    assert _allowed_misses(4000, 1.0) == _allowed_misses(10, 0.998) == 0


def test_an_empty_array_of_queries_is_rejected(gallery: Tensor) -> None:
    with pytest.raises(ValueError, match="queries must hold at least one map"):
        Shortlist(gallery, HEAD, top_k=4, queries=gallery[:0])


@pytest.mark.parametrize(("top_k", "recall"), [(0, 0.9), (300, 0.9), (4, 0.0), (4, 1.1)])
def test_a_top_k_or_a_recall_out_of_range_is_rejected(gallery: Tensor, top_k: int, recall: float) -> None:
    with pytest.raises(ValueError, match=r"top_k must be in 1\.\.299|recall must be above 0 and at most 1"):
        Shortlist(gallery, HEAD, top_k=top_k, recall=recall)
