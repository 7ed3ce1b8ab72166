"""QAConv heads with random weights and statistics."""

from typing import Literal

import torch

from qaconv.models import QAConv


def random_head(channels: int, height: int, width: int, seed: int, variant: Literal["v1", "v2"] = "v2") -> QAConv:
    """Build a head in eval mode, with no weight or statistic at its initial value."""
    head = QAConv(channels, height, width, variant).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in (*head.parameters(), *head.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        head.weight.weight.sub_(1.0)  # of both signs
    return head
