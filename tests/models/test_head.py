"""The head's scores are those of the papers' formulas, in any order of its maps."""

import copy
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qaconv.models import QAConv
from qaconv.runtime.correspondences import best_partners
from tests.random_heads import random_head

CHANNELS, HEIGHT, WIDTH = 5, 3, 2


both_variants = pytest.mark.parametrize("variant", ["v1", "v2"])


def make_head(seed: int = 1, variant: Literal["v1", "v2"] = "v2") -> QAConv:
    return random_head(CHANNELS, HEIGHT, WIDTH, seed, variant)


def make_maps(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, CHANNELS, HEIGHT, WIDTH, generator=generator), dim=1)


def plain_logits(head: QAConv, queries: Tensor, galleries: Tensor) -> NDArray[np.float64]:
    """Compute the papers' formulas by loops in float64, with the batch's statistics if the head trains."""
    parameters = {name: value.detach().double().numpy() for name, value in head.state_dict().items()}
    places = HEIGHT * WIDTH

    def norm(values: NDArray[np.float64], layer: str) -> NDArray[np.float64]:
        running = parameters[f"{layer}.running_mean"][0], parameters[f"{layer}.running_var"][0]
        mean, variance = (values.mean(), values.var()) if head.training else running
        scaled = (values - mean) / np.sqrt(variance + 1e-5)
        normalised: NDArray[np.float64] = scaled * parameters[f"{layer}.weight"][0] + parameters[f"{layer}.bias"][0]
        return normalised

    best = np.empty((len(queries), len(galleries), 2, places))
    for i, query in enumerate(queries.double().flatten(2).numpy()):
        for j, gallery in enumerate(galleries.double().flatten(2).numpy()):
            for place in range(places):
                best[i, j, 0, place] = max(float(gallery[:, place] @ query[:, other]) for other in range(places))
                best[i, j, 1, place] = max(float(query[:, place] @ gallery[:, other]) for other in range(places))
    local = norm(best, "local_norm")
    weight = parameters["weight.weight"][0]
    if head.variant == "v1":
        raw = local.reshape(*local.shape[:2], -1) @ weight + parameters["weight.bias"][0]
    else:
        raw = (local @ weight + parameters["weight.bias"][0]).sum(axis=2)
    return norm(raw, "logit_norm")


@both_variants
@pytest.mark.parametrize("training", [True, False])
def test_logits_equal_loops_over_pairs_and_locations(variant: Literal["v1", "v2"], training: bool) -> None:
    head, queries, galleries = make_head(variant=variant).train(training), make_maps(3, seed=2), make_maps(4, seed=3)
    for others in (galleries, queries):
        expected = plain_logits(head, queries, others)
        logits = copy.deepcopy(head)(queries, others)
        np.testing.assert_allclose(logits.detach(), expected, atol=2e-5)


@both_variants
@pytest.mark.parametrize(("queries", "galleries"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_folded_head_equals_the_forward_pass_in_eval_mode(
    variant: Literal["v1", "v2"], queries: int, galleries: int
) -> None:
    head = make_head(variant=variant)
    query_maps, gallery_maps = make_maps(queries, seed=2), make_maps(galleries, seed=3)
    best_of_query = head.cosines(query_maps, gallery_maps).amax(dim=3).transpose(1, 2)  # [Q, G, S]
    best_of_gallery = head.cosines(query_maps, gallery_maps).amax(dim=1)
    folded = head.folded()
    logits = best_of_query.numpy() @ folded.query + best_of_gallery.numpy() @ folded.gallery + folded.bias
    np.testing.assert_allclose(logits, head(query_maps, gallery_maps).detach(), rtol=1.3e-6, atol=1e-5)


@both_variants
def test_shares_of_both_directions_and_the_constant_sum_to_the_logit(variant: Literal["v1", "v2"]) -> None:
    head, queries, galleries = make_head(variant=variant), make_maps(3, seed=2), make_maps(4, seed=3)
    logits = plain_logits(head, queries, galleries)
    for i, query in enumerate(queries.numpy()):
        for j, gallery in enumerate(galleries.numpy()):
            partners = best_partners(query, gallery, head.folded())
            total = partners.query_shares.sum() + partners.gallery_shares.sum() + partners.constant
            assert total == pytest.approx(logits[i, j], abs=2e-5)


@both_variants
def test_a_location_at_the_local_norm_s_zero_has_no_share(variant: Literal["v1", "v2"]) -> None:
    head = make_head(variant=variant)
    norm = head.local_norm
    average = head.folded().average
    assert norm(torch.full((1, 1, 1), average)).item() == pytest.approx(0, abs=1e-6)


def test_v1_is_not_symmetric_in_query_and_gallery() -> None:
    head, queries, galleries = make_head(variant="v1"), make_maps(3, seed=2), make_maps(4, seed=3)
    assert (head(queries, galleries) - head(galleries, queries).T).abs().max() > 0.01


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_exchanging_query_and_gallery_transposes_the_logits(queries: int, galleries: int, seed: int) -> None:
    head, query_maps, gallery_maps = make_head(seed), make_maps(queries, seed + 1), make_maps(galleries, seed + 2)
    torch.testing.assert_close(head(query_maps, gallery_maps), head(gallery_maps, query_maps).T)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 2**31))
def test_reordering_the_gallery_reorders_the_logits(order: list[int], seed: int) -> None:
    head, query_maps, gallery_maps = make_head(), make_maps(3, seed), make_maps(5, seed + 1)
    torch.testing.assert_close(head(query_maps, gallery_maps[order]), head(query_maps, gallery_maps)[:, order])


def test_maps_of_another_size_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"gallery_maps must have shape \[N, 5, 3, 2\], got \(2, 5, 2, 3\)"):
        make_head()(make_maps(1, seed=1), make_maps(2, seed=1).transpose(2, 3))


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant 'v3', allowed: 'v1', 'v2'"):
        QAConv(CHANNELS, HEIGHT, WIDTH, variant="v3")  # type: ignore[arg-type]
