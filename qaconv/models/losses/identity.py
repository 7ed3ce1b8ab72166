"""Train a baseline of one vector an image by the identity loss (Luo et al., CVPRW 2019)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from qaconv.config.kinds import LossSettings

if TYPE_CHECKING:
    from torch import nn

    from qaconv.models.head import QAConv


class Identity(LossSettings):
    """Softmax over the training people on features after the BNNeck, and hard triplet on those before it."""

    kind: Literal["identity"] = "identity"
    needs_vectors: ClassVar[bool] = True

    def build(self, head: "QAConv", people: int) -> "nn.Module":
        """Build the loss for people 0..people-1."""
        from qaconv.models.losses.identity_module import IdentityLoss

        return IdentityLoss(head, people)
