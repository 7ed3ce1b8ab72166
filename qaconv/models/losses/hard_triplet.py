"""Train by the hard triplet loss: hinge between each anchor's hardest positive and hardest negative logit."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat

from qaconv.models.losses import PairLoss

if TYPE_CHECKING:
    from torch import Tensor

COLLAPSED = 1e-3  # an epoch's mean loss that is nearer to the margin has learnt nothing


class HardTriplet(PairLoss):
    """Hinge of the hardest pairs, averaged over anchors (Liao and Shao, CVPR 2022, tag v2.1)."""

    kind: Literal["hard_triplet"] = "hard_triplet"
    margin: PositiveFloat = 16.0  # distance of the two, in logits; 16 in the paper
    pairwise_epochs: Annotated[int, Field(ge=0)] = 0  # of pairwise matching before; about 2 from weak weights

    def loss(self, logits: "Tensor", pids: "Tensor") -> "Tensor":
        """Compute the loss of logits [B, B]."""
        from torch.nn import functional as F

        from qaconv.models.losses.pairs import hardest

        positive, negative = hardest(logits, pids)
        return F.relu(self.margin - positive + negative).mean()

    def warm_up_epochs(self) -> int:
        """Return `pairwise_epochs`."""
        return self.pairwise_epochs

    def find_collapse(self, loss: float) -> str | None:
        """Say so if an epoch's mean loss equals the margin, which means that all scores are equal."""
        if abs(loss - self.margin) >= COLLAPSED:
            return None
        return (
            f"the hard triplet loss has stayed at its margin of {self.margin:g}: all scores are equal, and nothing is "
            "learnt; begin with pairwise matching, by the loss's pairwise_epochs, or lower its margin"
        )
