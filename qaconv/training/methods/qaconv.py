"""QAConv: compare maps location by location (Liao and Shao, ECCV 2020 and CVPR 2022)."""

from typing import ClassVar, Literal

from qaconv.training.methods.trained import TrainedMethod


class QAConvMethod(TrainedMethod):
    """Settings of a method that compares maps by QAConv."""

    about: ClassVar[str] = (
        "It compares two images location by location: for each location of one it finds the most similar location of "
        "the other, and sums their contributions."
    )
    pooled: ClassVar[bool] = False
    kind: Literal["qaconv"] = "qaconv"
    head: Literal["v1", "v2"] = "v2"  # of ECCV 2020, or of CVPR 2022

    @property
    def variant(self) -> Literal["v1", "v2"]:
        """Head: of ECCV 2020, or of CVPR 2022."""
        return self.head
