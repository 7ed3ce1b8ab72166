"""Sample each person together with those who are hardest to tell apart (Liao and Shao, CVPR 2022)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import Deck, Draw, TrainingImages


class GraphSampler(SamplerSettings):
    """Batches of a person and the P - 1 nearest others by the network's scores, one batch for each person."""

    kind: Literal["graph"] = "graph"

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        """Match an image of each person with one of every other, and draw the batches of an epoch."""
        scores = images.score(one_image_each(images.labels, rng))
        return graph_batches(images.labels, scores, identities=images.identities, images=images.images, rng=rng)


def graph_batches(
    labels: NDArray[np.int64], scores: NDArray[np.float32], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """Draw a batch for each person: that person and the nearest others.

    Args:
        labels: person index of each training image, [N].
        scores: similarity of the people by one image each, [I, I], in the order of their sorted labels.
        identities: people in a batch, the one in the centre included, P.
        images: images of each person, K.
        rng: draws the order, the images and the augmentation seeds.
    """
    deck = Deck(labels, rng)
    batches = []
    for centre in rng.permutation(len(deck.identities)):
        distances = -scores[centre]  # row by row: the graph of 10,000 people is large enough once
        distances[centre] = np.inf
        nearest = np.argsort(distances, kind="stable")[: identities - 1]
        group = deck.identities[[*nearest, centre]]
        batches.append([draw for label in group.tolist() for draw in deck.deal(label, images)])
    return batches


def one_image_each(labels: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """Draw an image of each person to build the graph from: rows in the order of the sorted labels."""
    deck = Deck(labels, rng)
    return [deck.deal(label, 1)[0].row for label in deck.identities.tolist()]
