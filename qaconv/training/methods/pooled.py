"""Compare one vector of each image by its cosine: the usual baseline of person re-identification."""

from typing import ClassVar, Literal

from qaconv.training.methods.trained import TrainedMethod


class PooledMethod(TrainedMethod):
    """Settings of a method that averages each map to a vector."""

    about: ClassVar[str] = "It has one vector for each image, and compares vectors."
    pooled: ClassVar[bool] = True
    kind: Literal["pooled"] = "pooled"
