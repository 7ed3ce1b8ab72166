"""Feature maps of a batch and its people go in; a loss, and the share of anchors matched right, come out.

B batch, C channels, H x W map size. Class memory compares each image of the batch with the training's classes, every
other loss with each image of the batch.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models.head import QAConv


class Outcome(NamedTuple):
    """The loss (scalar), and the share of anchors whose hardest positive beats the hardest negative, in [0, 1]."""

    loss: Tensor
    accuracy: Tensor


BLOCK_CLASSES = 16  # classes in a block, as in the authors' code; the head's norms see one block at a time
GPU_BLOCKS = 64  # blocks compared at a time on a GPU, which would otherwise wait for launches; 1 on a CPU


class ClassMemoryLoss(nn.Module):
    """Focal cross-entropy of each image against the latest map of every class (Liao and Shao, ECCV 2020).

    Weighted by (1 - p)^2 with p the probability of the right answer, summed over classes, averaged over images. A class
    not yet seen is left out, as in their v1.1. Classes are compared in blocks whose gradients are taken at
    once, so that memory grows with the maps that are kept, not with what the head makes of them.

    Args:
        head: compares maps; images are its queries, classes its gallery.
        classes: how many there are, numbered from 0.
    """

    memory: Tensor  # [classes, C, H, W]
    seen: Tensor  # [classes], bool

    def __init__(self, head: QAConv, classes: int) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("memory", torch.zeros(classes, head.channels, head.height, head.width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Maps [B, C, H, W] and their pids [B]; remembers the maps afterwards."""
        known = self.seen.nonzero().flatten()
        blocks = known.tensor_split(-(-len(known) // BLOCK_CLASSES)) if len(known) else ()
        groups = _of_equal_size(blocks, _blocks_at_once(maps.device))
        best = torch.full((len(maps),), -torch.inf, device=maps.device)
        right = torch.zeros(len(maps), dtype=torch.bool, device=maps.device)

        def loss_of(maps: Tensor, group: Tensor) -> Tensor:
            classes = group.flatten()
            logits = self.head(maps, self.memory[classes], blocks=len(group))
            same = pids[:, None] == classes
            highest = logits.detach().max(dim=1)
            higher = highest.values > best  # a mask and no index, as an index makes the GPU wait
            best.copy_(torch.where(higher, highest.values, best))
            right.copy_(torch.where(higher, classes[highest.indices] == pids, right))
            return _focal(logits, same).sum() / len(maps)

        loss = _SumOverGroups.apply(loss_of, groups, maps, *self.head.parameters())
        self._remember(maps.detach(), pids)
        return Outcome(loss, right.float().mean())

    def _remember(self, maps: Tensor, pids: Tensor) -> None:
        """Writes each class's last map of the batch."""
        places = torch.arange(len(pids), device=pids.device)
        last = torch.full_like(self.seen, -1, dtype=torch.long).scatter_reduce(0, pids, places, "amax")
        shown = (last >= 0).nonzero().flatten()
        self.memory[shown] = maps[last[shown]].to(self.memory.dtype)
        self.seen[shown] = True


def _focal(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of each pair, weighted by (1 - p)^2 (Lin et al., ICCV 2017, gamma 2)."""
    entropy = F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype), reduction="none")
    probability = logits.sigmoid()
    return entropy * torch.where(same, 1 - probability, probability).square()


def _blocks_at_once(device: torch.device) -> int:
    return GPU_BLOCKS if device.type == "cuda" else 1


def _of_equal_size(blocks: Sequence[Tensor], at_once: int) -> list[Tensor]:
    """Stack neighbouring blocks [n] of equal size, at most so many, to groups [blocks, n]."""
    return [
        torch.stack(run[start : start + at_once])
        for run in (list(same) for _, same in groupby(blocks, len))
        for start in range(0, len(run), at_once)
    ]


class _SumOverGroups(torch.autograd.Function):
    """The sum of a loss over groups of classes; the gradient of each is taken as it is computed, and its graph freed.

    The head runs once for each group, so its running statistics move as they should, which recomputing would spoil.
    """

    @staticmethod
    def forward(
        ctx: Any, loss_of: Callable[[Tensor, Tensor], Tensor], groups: Sequence[Tensor], maps: Tensor, *weights: Tensor
    ) -> Tensor:
        total, leaf = maps.new_zeros(()), maps.detach().requires_grad_()
        wanted = [leaf, *(weight for weight in weights if weight.requires_grad)]
        gradients = [torch.zeros_like(value) for value in wanted]
        for group in groups:
            with torch.enable_grad():
                loss = loss_of(leaf, group)
            total += loss.detach()
            with torch.autocast(maps.device.type, enabled=False):  # in half precision small gradients would vanish
                found = torch.autograd.grad(loss, wanted)
            for gradient, part in zip(gradients, found, strict=True):
                gradient += part
        ctx.save_for_backward(*gradients)
        ctx.weights_wanted = [weight.requires_grad for weight in weights]
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        maps, *rest = (upstream * gradient for gradient in ctx.saved_tensors)
        left = iter(rest)
        return None, None, maps, *(next(left) if wanted else None for wanted in ctx.weights_wanted)


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
        "class_memory": lambda: ClassMemoryLoss(head, people),
        "pairwise_matching": lambda: PairwiseMatchingLoss(head),
        "hard_triplet": lambda: HardTripletLoss(head, margin),
        "identity": lambda: IdentityLoss(head, people),
    }
    return losses[name]()
