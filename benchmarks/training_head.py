"""Time a training step of the head, forward and backward: plain autograd over every cosine, and what training runs.

The batch is that of the papers: 64 images, 128 channels, maps of 24 x 8 locations.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.plain import plain_head
from benchmarks.machine import sgemm_rate
from benchmarks.table import Bound, Row, compare
from qaconv.models import QAConv

BATCH, CHANNELS, HEIGHT, WIDTH = 64, 128, 24, 8
IMAGES_PER_PERSON = 4


def rows() -> Iterator[Row]:
    """Match a batch with itself, as pairwise matching and hard triplet do, and with others, as class memory does."""
    generator = torch.Generator().manual_seed(0)
    head = QAConv(CHANNELS, HEIGHT, WIDTH).train()
    images, classes = (
        F.normalize(torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, generator=generator), dim=1) for _ in range(2)
    )
    product = 2 * CHANNELS * (BATCH * HEIGHT * WIDTH) ** 2
    bound = Bound(f"one product, sgemm at {sgemm_rate() / 1e9:.0f} GFLOP/s", product / sgemm_rate())
    for name, memory in (("batch against itself", None), ("batch against a memory of 64", classes)):
        plain, ours = (partial(gradient, matcher, images, memory) for matcher in (plain_head(head), head))
        expected = plain()
        difference = float((expected - ours()).abs().max() / expected.abs().max())
        note = f"gradients differ by {difference:.1e} of the largest"
        yield compare(name, plain, ours, bound=bound, items=BATCH, note=note)


def gradient(head: QAConv, images: Tensor, memory: Tensor | None) -> Tensor:
    """Return the gradient of the binary cross-entropy of all pairs with respect to the images' maps."""
    maps = images.clone().requires_grad_()
    people = torch.arange(BATCH) // IMAGES_PER_PERSON
    logits = head(maps, maps if memory is None else memory)
    F.binary_cross_entropy_with_logits(logits, (people[:, None] == people).float()).backward()
    assert maps.grad is not None
    return maps.grad
