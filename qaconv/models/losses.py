"""Feature maps of a batch and its people go in; a loss, and the share of anchors matched right, come out.

B batch, C channels, H x W map size. Every loss compares each image of the batch with each other one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Outcome(NamedTuple):
    """A batch's loss (scalar), and how many anchors' hardest positive scores above their hardest negative, in [0, 1]."""

    loss: Tensor
    accuracy: Tensor


class PairwiseMatchingLoss(nn.Module):
    """Binary cross-entropy of every pair being the same person (Liao and Shao, CVPR 2022, tag v2.0).

    Summed over each anchor's B pairs and averaged over anchors.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Maps [B, C, H, W] and their pids [B]."""
        logits = self.head(maps, maps)
        same = (pids[:, None] == pids[None, :]).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, same, reduction="none").sum(dim=1).mean()
        positive, negative = hardest(logits, pids)
        return Outcome(loss, (positive > negative).float().mean())


class HardTripletLoss(nn.Module):
    """Hinge between each anchor's hardest positive and hardest negative logit (Liao and Shao, CVPR 2022, tag v2.1).

    Args:
        head: compares maps.
        margin: wanted distance between the two, in logits; theirs is 16.
    """

    def __init__(self, head: nn.Module, margin: float = 16.0) -> None:
        super().__init__()
        self.head = head
        self.margin = margin

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Maps [B, C, H, W] and their pids [B]."""
        positive, negative = hardest(self.head(maps, maps), pids)
        return Outcome(F.relu(self.margin - positive + negative).mean(), (positive > negative).float().mean())


def hardest(logits: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """Each anchor's lowest logit among its other images and highest among other people, [B] each.

    Args:
        logits: [B, B].
        pids: [B]; each at least twice, and at least two of them.
    """
    same = pids[:, None] == pids[None, :]
    other = ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    positive = logits.masked_fill(~(same & other), torch.inf).amin(dim=1)
    negative = logits.masked_fill(same, -torch.inf).amax(dim=1)
    return positive, negative


def build_loss(name: str, head: nn.Module, *, margin: float) -> nn.Module:
    """The loss of that name, as params.yaml spells it."""
    return PairwiseMatchingLoss(head) if name == "pairwise_matching" else HardTripletLoss(head, margin)
