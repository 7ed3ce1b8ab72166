"""Put the scores of an embedding that was not trained here on the scale of trained ones."""

import torch
from torch import Tensor

from qaconv.models.head import QAConv


@torch.no_grad()
def standardise(head: QAConv, maps: Tensor) -> None:
    """Set the statistics of a head's norms by the scores of images with each other, as a training does step by step.

    Args:
        head: on the CPU. It is put in eval mode.
        maps: of images [N, C, H, W], few of them of one person.
    """
    norms = (head.local_norm, head.logit_norm)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # statistics are the mean over all calls, of which there is one
    head.train()
    head(maps, maps)
    head.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
