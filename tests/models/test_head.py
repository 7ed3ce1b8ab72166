"""The head's scores are what the papers' formulas say, whatever the order of its maps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from qaconv.models import QAConv

CHANNELS, HEIGHT, WIDTH = 5, 3, 2


def make_head(seed: int = 1) -> QAConv:
    """A head in eval mode, none of whose weights or statistics has its initial value."""
    head = QAConv(CHANNELS, HEIGHT, WIDTH).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in (*head.parameters(), *head.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        head.weight.weight.sub_(1.0)  # of both signs
    return head


def make_maps(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, CHANNELS, HEIGHT, WIDTH, generator=generator), dim=1)


def plain_logit(head: QAConv, query: Tensor, gallery: Tensor) -> float:
    """One pair's logit by loops over locations, in float64."""
    locations = [(row, column) for row in range(HEIGHT) for column in range(WIDTH)]

    def norm(value: float, layer: torch.nn.BatchNorm1d) -> float:
        assert layer.running_mean is not None and layer.running_var is not None
        scale = layer.weight.item() / np.sqrt(layer.running_var.item() + layer.eps)
        return (value - layer.running_mean.item()) * scale + layer.bias.item()

    total = 0.0
    for one, other in ((query, gallery), (gallery, query)):
        total += head.weight.bias.item()
        for place, (row, column) in enumerate(locations):
            best = max(float(one[:, row, column].double() @ other[:, r, c].double()) for r, c in locations)
            total += head.weight.weight[0, place].item() * norm(best, head.local_norm)
    return norm(total, head.logit_norm)


def test_logits_equal_a_loop_over_pairs_and_locations() -> None:
    head, queries, galleries = make_head(), make_maps(3, seed=2), make_maps(4, seed=3)
    expected = [[plain_logit(head, query, gallery) for gallery in galleries] for query in queries]
    np.testing.assert_allclose(head(queries, galleries).detach(), expected, atol=1e-5)


@pytest.mark.parametrize(("queries", "galleries"), [(1, 1), (1, 4), (3, 1), (3, 4)])
def test_folded_head_equals_the_forward_pass_in_eval_mode(queries: int, galleries: int) -> None:
    head, query_maps, gallery_maps = make_head(), make_maps(queries, seed=2), make_maps(galleries, seed=3)
    found, folded = head.correspondences(query_maps, gallery_maps), head.folded()
    logits = found.query_scores @ folded.query + found.gallery_scores @ folded.gallery + folded.bias
    torch.testing.assert_close(logits, head(query_maps, gallery_maps))


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


def test_each_correspondence_points_at_the_locations_whose_cosine_it_names() -> None:
    head, queries, galleries = make_head(), make_maps(3, seed=2), make_maps(4, seed=3)
    found = head.correspondences(queries, galleries)
    for i, query in enumerate(queries.flatten(2)):
        for j, gallery in enumerate(galleries.flatten(2)):
            cosines = query.T @ gallery
            for place in range(HEIGHT * WIDTH):
                partner, named = found.query_indices[i, j, place], found.query_scores[i, j, place]
                torch.testing.assert_close(named, cosines[place, partner])
                torch.testing.assert_close(named, cosines[place].max())
                partner, named = found.gallery_indices[i, j, place], found.gallery_scores[i, j, place]
                torch.testing.assert_close(named, cosines[partner, place])
                torch.testing.assert_close(named, cosines[:, place].max())


def test_maps_of_another_size_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"gallery_maps have shape \(2, 5, 2, 3\); expected \[N, 5, 3, 2\]"):
        make_head()(make_maps(1, seed=1), make_maps(2, seed=1).transpose(2, 3))


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant is 'v1'; legal is 'v2'"):
        QAConv(CHANNELS, HEIGHT, WIDTH, variant="v1")  # type: ignore[arg-type]
