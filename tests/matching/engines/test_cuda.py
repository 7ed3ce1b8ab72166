"""The Triton kernel gives the head's logits within half precision, and is compiled as it is meant to run on a GPU.

Its values are those of Triton's interpreter on the CPU; a GPU's are compared by `python -m benchmarks.gpu`.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.runtime.head import Head
from qaconv.runtime.quantise import quantise
from tests.triton_kernels import SHARED_BYTES, compile_for_hopper, needs_triton, run_in_interpreter

CPU = torch.device("cpu")
POINTERS = {
    **{"queries": "fp16", "gallery": "fp16", "query_index": "i64", "gallery_index": "i64"},
    **dict.fromkeys(("query_weights", "gallery_weights", "bias", "logits"), "fp32"),
}
SHAPES = [(2, 8), (35, 40), (64, 16), (192, 24)]  # locations, channels


@needs_triton
def test_the_kernels_logits_are_the_tiles_within_half_precision() -> None:
    run_in_interpreter(__file__)


@needs_triton
def test_at_the_papers_size_two_programs_share_a_multiprocessor_and_nothing_is_spilled() -> None:
    from qaconv.matching.engines import cuda

    sizes = {"LOCATIONS": 192, "CHANNELS": 128, "WIDE": 128, "NARROW": 64, "ROWS": cuda.ROWS}
    for indexed in (False, True):
        constants = {"INDEXED": indexed, **sizes, "QUERIES": 64, "STAGES": 2}
        taken = compile_for_hopper(cuda.match_images.fn, POINTERS, constants, num_warps=4)
        assert 2 * taken.shared_bytes <= SHARED_BYTES
        assert taken.spilled_bytes == 0
        assert taken.tensor_core_products > 0


@needs_triton
@pytest.mark.parametrize(("locations", "channels"), [(192, 128), (72, 64), (256, 256)])
def test_the_kernel_takes_the_shared_memory_that_is_asked_for(locations: int, channels: int) -> None:
    from qaconv.matching.engines import cuda

    wide, narrow = cuda._column_pieces(locations)
    rows = -(-locations // cuda.ROWS) * cuda.ROWS
    sizes = {"LOCATIONS": rows, "CHANNELS": channels, "WIDE": wide, "NARROW": narrow, "ROWS": cuda.ROWS}
    constants = {"INDEXED": False, **sizes, "QUERIES": 64, "STAGES": 2}
    taken = compile_for_hopper(cuda.match_images.fn, POINTERS, constants, num_warps=8)
    assert taken.shared_bytes <= cuda.shared_bytes(locations, channels) <= 1.1 * taken.shared_bytes + 2048


@needs_triton
@given(st.integers(2, 256))
def test_the_two_pieces_hold_all_columns_and_lie_within_the_padded_rows(locations: int) -> None:
    from qaconv.matching.engines import cuda

    wide, narrow = cuda._column_pieces(locations)
    assert all(piece >= 16 and piece & (piece - 1) == 0 for piece in (wide, narrow))
    assert locations <= wide + narrow <= -(-locations // cuda.ROWS) * cuda.ROWS


def compare(locations: int, channels: int) -> None:
    """Raise where the kernel and torch's tiles differ."""
    from qaconv.matching.engines.cuda import TritonMatcher

    generator = torch.Generator().manual_seed(locations)
    maps = [F.normalize(torch.randn(n, locations, channels, generator=generator), dim=2) for n in (3, 4)]
    queries, gallery = (part.numpy() for part in maps)
    query_weights, gallery_weights = torch.randn(2, locations, generator=generator) / locations
    head = Head(query_weights.numpy(), gallery_weights.numpy(), 0.5)
    ours, plain = TritonMatcher(head, CPU), TorchMatcher(head, CPU)
    prepared = ours.prepare(queries)
    assert ours.prepare(prepared) is prepared
    expected = plain.table(plain.prepare(queries), gallery)
    np.testing.assert_allclose(ours.table(prepared, gallery), expected, atol=1e-3, rtol=0)
    rows, columns = np.array([2, 0, 2, 1]), np.array([3, 1, 0, 1])
    np.testing.assert_allclose(ours.pairs(prepared, gallery, rows, columns), expected[rows, columns], atol=1e-3, rtol=0)
    np.testing.assert_allclose(
        plain.pairs(plain.prepare(queries), gallery, rows, columns), expected[rows, columns], atol=1e-5, rtol=0
    )
    np.testing.assert_allclose(ours.table(prepared, quantise(gallery)), expected, atol=2e-2, rtol=0)
    assert ours.table(prepared[:0], gallery).shape == (0, 4)


if __name__ == "__main__":
    for shape in SHAPES:
        compare(*shape)
