"""Best partners and their gradient are those of plain autograd, and no table of all cosines is kept for them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from qaconv.models import local_max
from qaconv.models.local_max import best_partners


def make_maps(count: int, seed: int, *, size: tuple[int, int] = (3, 2), dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 4, *size, generator=generator, dtype=dtype), dim=1).requires_grad_()


def plain(query_maps: Tensor, gallery_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the same by a table of all cosines."""
    table = torch.einsum("qcs,gct->qsgt", query_maps.flatten(2), gallery_maps.flatten(2))
    return table.max(dim=3).values, table.max(dim=1).values.permute(1, 2, 0)


def gradients(both: tuple[Tensor, Tensor], *maps: Tensor) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(9)
    sums = [(best * torch.randn(best.shape, generator=generator, dtype=best.dtype)).sum() for best in both]
    return torch.autograd.grad(torch.stack(sums).sum(), maps)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([1, 200, 4 << 20]))
def test_values_and_gradients_are_those_of_plain_autograd(
    queries: int, galleries: int, seed: int, tile_bytes: int
) -> None:
    query_maps, gallery_maps = make_maps(queries, seed), make_maps(galleries, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_max, "CPU_TILE_BYTES", tile_bytes)
        patch.setattr(local_max, "BLOCK", 2)
        for pair in ((query_maps, gallery_maps), (query_maps, query_maps)):
            torch.testing.assert_close(best_partners(*pair), plain(*pair))
            torch.testing.assert_close(gradients(best_partners(*pair), *pair), gradients(plain(*pair), *pair))


def test_gradients_pass_gradcheck() -> None:
    query_maps, gallery_maps = make_maps(2, seed=1), make_maps(3, seed=2)
    assert torch.autograd.gradcheck(best_partners, (query_maps, gallery_maps))
    assert torch.autograd.gradcheck(lambda maps: best_partners(maps, maps), (query_maps,))


@pytest.mark.parametrize("size", [(32, 8), (33, 8)], ids=["256 locations", "264 locations"])
def test_indices_of_many_locations_do_not_overflow(size: tuple[int, int]) -> None:
    maps = make_maps(2, seed=1, size=size)
    torch.testing.assert_close(gradients(best_partners(maps, maps), maps), gradients(plain(maps, maps), maps))


def test_of_equal_cosines_the_first_location_gets_the_gradient() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    query_maps, gallery_maps = vectors[[1, 0, 0]].T.reshape(1, 2, 3, 1), vectors.T.reshape(1, 2, 3, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(best_partners(query_maps, gallery_maps)[0].sum(), gallery_maps)
    assert gradient[0, :, :, 0].T.tolist() == [[2, 0], [0, 1], [0, 0]]


def test_gradient_keeps_the_maps_and_a_byte_for_each_location_of_each_pair() -> None:
    maps, kept = make_maps(6, seed=1, dtype=torch.float32), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        best_partners(maps, maps)
    assert sum(kept.values()) == maps.numel() * 4 + 6 * 6 * 6


def test_maps_that_need_no_gradient_get_none() -> None:
    query_maps, memory = make_maps(2, seed=1), make_maps(3, seed=2).detach()
    expected = gradients(plain(query_maps, memory), query_maps)
    torch.testing.assert_close(gradients(best_partners(query_maps, memory), query_maps), expected)


def test_autocast_halves_the_precision_of_cosines_but_not_of_gradients() -> None:
    maps = make_maps(4, seed=1, dtype=torch.float32)
    exact = best_partners(maps, maps)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = best_partners(maps, maps)[0]
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.01
    (gradient,) = torch.autograd.grad(half.sum(), maps)
    assert not torch.equal(gradient, gradient.bfloat16().float())
