"""Sample P people at random and K images of each (Hermans et al., arXiv 1703.07737)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import Draw, TrainingImages
from qaconv.data.samplers.domain_balanced import domain_batches


class PKSampler(SamplerSettings):
    """Batches of P people drawn at random, with K images of each."""

    kind: Literal["pk"] = "pk"

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        """Draw the batches of an epoch."""
        return pk_batches(images.labels, identities=images.identities, images=images.images, rng=rng)


def pk_batches(
    labels: NDArray[np.int64], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """Draw batches of P people with K images each: as many batches as show about every image once.

    Args:
        labels: person index of each training image, [N].
        identities: people in a batch, P.
        images: images of each person, K.
        rng: draws the order, the images and the augmentation seeds.
    """
    domains = np.zeros(len(labels), np.int64)
    return domain_batches(labels, domains, identities=identities, images=images, rng=rng)
