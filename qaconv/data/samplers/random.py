"""Sample images at random, for losses that need no second image of a person."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import Draw, TrainingImages
from qaconv.errors import InputError


class RandomSampler(SamplerSettings):
    """Batches of as many images as the other samplers', drawn without regard to the people on them."""

    kind: Literal["random"] = "random"
    gives_pairs: ClassVar[bool] = False

    def check(self, images: TrainingImages) -> None:
        """Check that there are as many images as a batch shows. How many people are on them does not matter."""
        size = images.identities * images.images
        if len(images.labels) < size:
            raise InputError(
                f"params.yaml: train.identities_per_batch x train.images_per_identity must be at most "
                f"{len(images.labels)}, the training images, got {images.identities} x {images.images}"
            )

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        """Draw the batches of an epoch."""
        return random_batches(images.labels, size=images.identities * images.images, rng=rng)


def random_batches(labels: NDArray[np.int64], *, size: int, rng: np.random.Generator) -> list[list[Draw]]:
    """Draw batches of images in random order. Images that fill no batch are left out.

    Args:
        labels: person index of each training image, [N].
        size: images in a batch.
        rng: draws the order and the augmentation seeds.
    """
    order = rng.permutation(len(labels)).tolist()
    seeds = rng.integers(2**31, size=len(labels)).tolist()
    draws = [Draw(row, seed) for row, seed in zip(order, seeds, strict=True)]
    return [draws[end - size : end] for end in range(size, len(draws) + 1, size)]
