"""Train a baseline of one vector an image by the identity loss: softmax over people and hard triplet on cosines."""

from typing import TYPE_CHECKING, ClassVar, Literal

from qaconv.config.kinds import LossSettings

if TYPE_CHECKING:
    from torch import nn

    from qaconv.models.head import QAConv


class Identity(LossSettings):
    """Softmax over the training people, hard triplet on cosines, and pairwise matching for the head's scale."""

    kind: Literal["identity"] = "identity"
    needs_vectors: ClassVar[bool] = True

    def build(self, head: "QAConv", people: int) -> "nn.Module":
        """Build the loss for people 0..people-1."""
        from qaconv.models.losses.identity_module import IdentityLoss

        return IdentityLoss(head, people)
