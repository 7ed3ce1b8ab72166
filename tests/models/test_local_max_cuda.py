"""The Triton kernels find what torch's tiles find, with the same gradients, in Triton's interpreter on the CPU."""

import pytest
import torch
from torch.nn import functional as F

from qaconv.models import local_max
from tests.triton_kernels import SHARED_BYTES, compile_for_hopper, needs_triton, run_in_interpreter

SHAPES = [(2, 3, 35, 40), (3, 9, 72, 16)]  # queries, gallery images, locations, channels


@needs_triton
def test_the_kernels_find_the_same_partners_and_gradients_as_torch() -> None:
    run_in_interpreter(__file__)


@needs_triton
@pytest.mark.parametrize("kind", ["fp16", "fp32"])
def test_the_kernels_fit_a_gpu_at_the_papers_size_and_multiply_on_its_tensor_cores(kind: str) -> None:
    from qaconv.models import local_max_cuda as kernels

    sizes = {"LOCATIONS": 192, "CHANNELS": 128, "ROWS": kernels.ROWS}
    find = compile_for_hopper(
        kernels.find_best,
        {"choosing": kind, "other": kind, "best": "fp32", "winners": "u8"},
        {**sizes, "COLUMNS": kernels.COLUMNS, "OTHERS": kernels.OTHERS},
        num_stages=2 if kind == "fp16" else 1,
    )
    pointers = {"gradient": "fp32", "winners": "u8", "sums": "fp32"}
    gather = compile_for_hopper(
        kernels.gather_rows, pointers | {"other": "fp32"}, {**sizes, "ROWS": kernels.GATHERED}, num_stages=3
    )
    scatter = compile_for_hopper(
        kernels.scatter_rows,
        pointers | {"choosing": "fp32", "scale": "fp32"},
        {**sizes, "COLUMNS": kernels.SCATTERED},
        num_warps=8,
        num_stages=1,
    )
    for kernel in (find, gather, scatter):
        assert kernel.shared_bytes <= kernels.SHARED_BYTES * 128 <= SHARED_BYTES
        assert kernel.spilled_bytes == 0
    assert find.tensor_core_products > 0 and scatter.tensor_core_products > 0


def compare(queries: int, galleries: int, locations: int, channels: int) -> None:
    """Raise an error if the kernels and torch differ."""
    from qaconv.models import local_max_cuda as kernels

    generator = torch.Generator().manual_seed(locations)
    query, gallery = (
        F.normalize(torch.randn(n, locations, channels, generator=generator), dim=2) for n in (queries, galleries)
    )
    gallery[:, -1] = gallery[:, 0]  # of equal cosines the first location counts
    both = [find(query, gallery, True, torch.uint8) for find in (kernels.find, local_max._find)]
    for (best, winners), (expected_best, expected_winners) in zip(*both, strict=True):
        torch.testing.assert_close(best, expected_best)
        assert torch.equal(winners, expected_winners)
    gradient = torch.randn(queries, locations, galleries, generator=generator)
    winners = both[0][0][1]
    torch.testing.assert_close(
        kernels.gather(gradient, gallery, winners), local_max._gather(gradient, gallery, winners)
    )
    torch.testing.assert_close(kernels.scatter(gradient, query, winners), local_max._scatter(gradient, query, winners))


if __name__ == "__main__":
    for shape in SHAPES:
        compare(*shape)
