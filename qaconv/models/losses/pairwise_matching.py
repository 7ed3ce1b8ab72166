"""Train by pairwise matching: cross-entropy of "same person" for each pair (Liao and Shao, CVPR 2022, tag v2.0)."""

from typing import TYPE_CHECKING, Literal

from qaconv.models.losses import PairLoss

if TYPE_CHECKING:
    from torch import Tensor


class PairwiseMatching(PairLoss):
    """Binary cross-entropy of each pair, summed over an anchor's B pairs and averaged over anchors."""

    kind: Literal["pairwise_matching"] = "pairwise_matching"

    def loss(self, logits: "Tensor", pids: "Tensor") -> "Tensor":
        """Compute the loss of logits [B, B]. An image's pair with itself counts, as in the authors' code."""
        from torch.nn import functional as F

        same = (pids[:, None] == pids[None, :]).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, same, reduction="none").sum(dim=1).mean()
