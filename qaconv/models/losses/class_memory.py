"""Train by class memory: compare each image with the latest map of every class (Liao and Shao, ECCV 2020)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from qaconv.config.kinds import LossSettings

if TYPE_CHECKING:
    from torch import nn

    from qaconv.models.head import QAConv


class ClassMemory(LossSettings):
    """Focal cross-entropy against a memory of all classes, which needs no second image of a person in a batch."""

    kind: Literal["class_memory"] = "class_memory"
    needs_pairs: ClassVar[bool] = False

    def build(self, head: "QAConv", people: int) -> "nn.Module":
        """Build the loss with an empty memory of people 0..people-1."""
        from qaconv.models.losses.class_memory_module import ClassMemoryLoss

        return ClassMemoryLoss(head, people)
