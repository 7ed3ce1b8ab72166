"""Compare all images of a batch with each other, and find the hardest pairs."""

import torch
from torch import Tensor, nn

from qaconv.models.losses import Outcome, PairLoss


class PairLossModule(nn.Module):
    """A loss that is a function of the logits of all pairs.

    Args:
        head: compares maps [B, C, H, W] with maps to logits [B, B].
        settings: computes the loss.
    """

    def __init__(self, head: nn.Module, settings: PairLoss) -> None:
        super().__init__()
        self.head = head
        self.settings = settings

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Compute the loss of maps [B, C, H, W] with the person indices `pids`, [B]."""
        logits = self.head(maps, maps)
        loss = self.settings.loss(logits, pids)
        positive, negative = hardest(logits.detach(), pids)
        return Outcome(loss, (positive > negative).float().mean())


def hardest(logits: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """Find each anchor's lowest logit with its other images and highest logit with other people, [B] each.

    Args:
        logits: score of each image with each other, [B, B].
        pids: person index of each image, [B]; each at least twice, and at least two of them.
    """
    same = pids[:, None] == pids[None, :]
    other = ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    positive = logits.masked_fill(~(same & other), torch.inf).amin(dim=1)
    negative = logits.masked_fill(same, -torch.inf).amax(dim=1)
    return positive, negative
