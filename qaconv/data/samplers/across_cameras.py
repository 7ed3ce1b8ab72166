"""Sample P people with K images each from as many cameras as saw them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import Deck, Draw, TrainingImages
from qaconv.data.samplers.domain_balanced import draw_people


class AcrossCamerasSampler(SamplerSettings):
    """P x K batches whose images of a person are of different cameras, so that every match to learn is across them."""

    kind: Literal["across_cameras"] = "across_cameras"

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        """Draw the batches of an epoch."""
        return across_camera_batches(
            images.labels, images.camids, identities=images.identities, images=images.images, rng=rng
        )


def across_camera_batches(
    labels: NDArray[np.int64], camids: NDArray[np.int64], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """Draw P x K batches; a camera gives a second image of a person after all others that saw the person gave one.

    There are as many batches as show about as many images as there are. A camera's images of a person come without
    repetition until all have come, so those of a camera with few of them come more often.

    Args:
        labels: person index of each training image, [N].
        camids: camera of each image, [N].
        identities: people in a batch, P.
        images: images of each person, K.
        rng: draws the order, the images and the augmentation seeds.
    """
    groups = draw_people(labels, np.zeros(len(labels), np.int64), identities=identities, images=images, rng=rng)
    pairs, pair_of_image = np.unique(np.stack([labels, camids]), axis=1, return_inverse=True)
    deck = Deck(pair_of_image, rng)  # of each person on each camera

    def deal(label: int) -> list[Draw]:
        seen_by = rng.permutation(np.flatnonzero(pairs[0] == label)).tolist()
        return [deck.deal(seen_by[turn % len(seen_by)], 1)[0] for turn in range(images)]

    return [[draw for label in group for draw in deal(label)] for group in groups]
