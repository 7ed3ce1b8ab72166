"""Define what the losses of a batch of feature maps have in common.

B images in a batch, C channels, H x W map size. Class memory compares each image of the batch with every class of the
training, the other losses with every image of the batch. A module with settings must not import torch at once, as
reading params.yaml imports it.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from qaconv.config.kinds import LossSettings
from qaconv.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Outcome(NamedTuple):
    """Result of a loss.

    Attributes:
        loss: scalar, to be minimised.
        accuracy: fraction of anchors whose hardest positive scores above the hardest negative, scalar in [0, 1].
    """

    loss: "Tensor"
    accuracy: "Tensor"


class PairLoss(LossSettings):
    """Base of losses that are a function of the logits of all pairs in a batch."""

    @abstractmethod
    def loss(self, logits: "Tensor", pids: "Tensor") -> "Tensor":
        """Compute the loss of a batch.

        Args:
            logits: score of each image with each other, [B, B].
            pids: person index of each image, [B]; each at least twice, and at least two of them.

        Returns:
            A scalar with gradients.
        """

    def build(self, head: "nn.Module", people: int) -> "nn.Module":
        """Build a module that compares feature maps by `head` and applies `loss`; `people` is not used."""
        from qaconv.models.losses.pairs import PairLossModule

        return PairLossModule(head, self)


def build_loss(settings: LossSettings, head: "nn.Module", people: int) -> "nn.Module":
    """Build a loss, and check that it trains the head.

    Raises:
        InputError: the loss is no module with the head in it.
    """
    from torch import nn

    loss = settings.build(head, people)
    if not isinstance(loss, nn.Module) or all(module is not head for module in loss.modules()):
        raise InputError(
            f"loss {settings.kind!r}: build must return a torch.nn.Module that keeps the head, such as by self.head = "
            f"head, as the head is trained and saved as a part of it; got {type(loss).__name__}"
        )
    return loss
