"""Compute the class memory loss, which compares a batch with the latest map of every class.

B images in a batch, C channels, H x W map size.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.models.head import QAConv
from qaconv.models.losses import Outcome

BLOCK_CLASSES = 16  # classes in a block, as in the authors' code; the head's norms see one block at a time
GPU_BLOCKS = 64  # blocks compared at a time on a GPU, which otherwise waits for launches; 1 on a CPU


class ClassMemoryLoss(nn.Module):
    """Focal cross-entropy of each image against the latest map of every class (Liao and Shao, ECCV 2020).

    Each pair is weighted by (1 - p)^2, where p is the probability of the right answer; the sum over classes is averaged
    over images. Classes that have not been seen are left out, as in the authors' v1.1. Classes are compared in blocks
    whose gradients are computed at once, so that memory grows with the stored maps, not with the head's tables.

    Args:
        head: compares maps; images are its queries, classes its gallery.
        classes: number of classes, whose indices are 0..classes-1.
    """

    memory: Tensor  # [classes, C, H, W]
    seen: Tensor  # [classes], bool

    def __init__(self, head: QAConv, classes: int) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("memory", torch.zeros(classes, head.channels, head.height, head.width))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    def forward(self, maps: Tensor, pids: Tensor) -> Outcome:
        """Compute the loss of maps [B, C, H, W] with the person indices `pids`, [B], then store the maps."""
        known = self.seen.nonzero().flatten()
        blocks = known.tensor_split(-(-len(known) // BLOCK_CLASSES)) if len(known) else ()
        groups = _stack_blocks(blocks, _blocks_at_once(maps.device))
        best = torch.full((len(maps),), -torch.inf, device=maps.device)
        right = torch.zeros(len(maps), dtype=torch.bool, device=maps.device)

        def compute_group(maps: Tensor, group: Tensor) -> Tensor:
            classes = group.flatten()
            logits = self.head(maps, self.memory[classes], blocks=len(group))
            same = pids[:, None] == classes
            highest = logits.detach().max(dim=1)
            higher = highest.values > best  # a mask, as an index makes the GPU wait
            best.copy_(torch.where(higher, highest.values, best))
            right.copy_(torch.where(higher, classes[highest.indices] == pids, right))
            return _focal(logits, same).sum() / len(maps)

        loss: Tensor = _SumOverGroups.apply(compute_group, groups, maps, *self.head.parameters())
        self._store(maps.detach(), pids)
        return Outcome(loss, right.float().mean())

    def _store(self, maps: Tensor, pids: Tensor) -> None:
        """Store the last map of each class in the batch."""
        rows = torch.arange(len(pids), device=pids.device)
        last = torch.full_like(self.seen, -1, dtype=torch.long).scatter_reduce(0, pids, rows, "amax")
        classes = (last >= 0).nonzero().flatten()
        self.memory[classes] = maps[last[classes]].to(self.memory.dtype)
        self.seen[classes] = True


def _focal(logits: Tensor, same: Tensor) -> Tensor:
    """Compute the focal cross-entropy of each pair, weighted by (1 - p)^2 (Lin et al., ICCV 2017, gamma 2)."""
    entropy = F.binary_cross_entropy_with_logits(logits, same.to(logits.dtype), reduction="none")
    probability = logits.sigmoid()
    return entropy * torch.where(same, 1 - probability, probability).square()


def _blocks_at_once(device: torch.device) -> int:
    return GPU_BLOCKS if device.type == "cuda" else 1


def _stack_blocks(blocks: Sequence[Tensor], at_once: int) -> list[Tensor]:
    """Stack at most `at_once` neighbouring blocks [n] of equal size to each group [blocks, n]."""
    return [
        torch.stack(run[start : start + at_once])
        for run in (list(same) for _, same in groupby(blocks, len))
        for start in range(0, len(run), at_once)
    ]


class _SumOverGroups(torch.autograd.Function):
    """Sum a loss over groups of classes, computing each group's gradient at once so that its graph can be freed.

    The head runs once for each group. Computing groups again in the backward pass would update its running statistics
    twice.
    """

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[[Tensor, Tensor], Tensor], groups: Sequence[Tensor], maps: Tensor, *weights: Tensor
    ) -> Tensor:
        total = maps.new_zeros(())
        leaf = maps.detach().requires_grad_()
        inputs = [leaf, *(weight for weight in weights if weight.requires_grad)]
        gradients = [torch.zeros_like(value) for value in inputs]
        for group in groups:
            with torch.enable_grad():
                loss = compute(leaf, group)
            total += loss.detach()
            with torch.autocast(maps.device.type, enabled=False):  # in half precision small gradients would vanish
                group_gradients = torch.autograd.grad(loss, inputs)
            for gradient, group_gradient in zip(gradients, group_gradients, strict=True):
                gradient += group_gradient
        ctx.save_for_backward(*gradients)
        ctx.trained = [weight.requires_grad for weight in weights]
        return total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        maps, *rest = (upstream * gradient for gradient in ctx.saved_tensors)
        remaining = iter(rest)
        return None, None, maps, *(next(remaining) if trained else None for trained in ctx.trained)
