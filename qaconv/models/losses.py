"""Feature maps of a batch and its people go in; a loss, and the share of anchors matched right, come out.

B batch, C channels, H x W map size. Every loss compares each image of the batch with each other one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models.head import QAConv


class Outcome(NamedTuple):
    """The loss (scalar), and the share of anchors whose hardest positive beats the hardest negative, in [0, 1]."""

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


class IdentityLoss(nn.Module):
    """What a peer trains a pooled vector with: softmax over the training people and the hard triplet on cosines.

    The softmax compares directions (Wang et al., NormFace, ACM MM 2017); the triplet is that of Hermans et al.
    (arXiv 1703.07737). Pairwise matching on the detached vectors fits the head's scale, and leaves the vectors alone.

    Args:
        head: compares vectors, maps of one location.
        people: whom the softmax tells apart, numbered from 0.
    """

    SCALE = 16.0  # of the cosines in the softmax
    MARGIN = 0.3  # of the triplet, in cosine (Luo et al., CVPRW 2019)

    def __init__(self, head: QAConv, people: int) -> None:
        super().__init__()
        self.matching = PairwiseMatchingLoss(head)
        self.prototypes = nn.Linear(head.channels, people, bias=False)

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Maps [B, C, 1, 1] of unit length and their pids [B]."""
        vectors = maps.flatten(1)
        softmax = F.cross_entropy(self.SCALE * vectors @ F.normalize(self.prototypes.weight, dim=1).T, pids)
        positive, negative = hardest(vectors @ vectors.T, pids)
        triplet = F.relu(self.MARGIN - positive + negative).mean()
        matching = self.matching(maps.detach(), pids)
        return Outcome(softmax + triplet + matching.loss, matching.accuracy)


def build_loss(name: str, head: QAConv, *, margin: float, people: int) -> nn.Module:
    """The loss of that name, as params.yaml spells it, for training on so many people."""
    losses = {
        "pairwise_matching": lambda: PairwiseMatchingLoss(head),
        "hard_triplet": lambda: HardTripletLoss(head, margin),
        "identity": lambda: IdentityLoss(head, people),
    }
    return losses[name]()
