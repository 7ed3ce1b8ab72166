"""The Triton kernel gives the head's logits within half precision, in Triton's interpreter on the CPU."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional as F

from qaconv.matching.quantise import quantise
from qaconv.matching.torch_tiles import TorchMatcher
from qaconv.models.head import FoldedHead

CPU = torch.device("cpu")
SHAPES = [(2, 8), (35, 40), (64, 16), (72, 64)]  # locations, channels


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with PyTorch for CUDA on Linux alone")
def test_the_kernels_logits_are_the_tiles_within_half_precision() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # Triton reads it once, when it is imported
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def compare(locations: int, channels: int) -> None:
    """Raises where the kernel and torch's tiles differ."""
    from qaconv.matching.cuda import TritonMatcher

    generator = torch.Generator().manual_seed(locations)
    queries, gallery = (F.normalize(torch.randn(n, locations, channels, generator=generator), dim=2) for n in (3, 4))
    query_weights, gallery_weights = torch.randn(2, locations, generator=generator) / locations
    folded = FoldedHead(query_weights, gallery_weights, torch.tensor(0.5))
    ours, plain = TritonMatcher(folded, CPU), TorchMatcher(folded, CPU)
    prepared = ours.prepare(queries)
    expected = plain.table(queries, gallery)
    torch.testing.assert_close(ours.table(prepared, gallery), expected, atol=2e-3, rtol=0)
    rows, columns = torch.tensor([2, 0, 2, 1]), torch.tensor([3, 1, 0, 1])
    torch.testing.assert_close(ours.pairs(prepared, gallery, rows, columns), expected[rows, columns], atol=2e-3, rtol=0)
    torch.testing.assert_close(ours.table(prepared, quantise(gallery)), expected, atol=2e-2, rtol=0)


if __name__ == "__main__":
    for shape in SHAPES:
        compare(*shape)
