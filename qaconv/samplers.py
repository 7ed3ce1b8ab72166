"""The people of the training images go in; an epoch's batches come out, each of some identities with several images.

Both samplers return lists of draws, so that an epoch can be written down and resumed at any batch.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Draw(NamedTuple):
    """One image in one batch: its row in the training table, and the seed of its augmentation."""

    row: int
    seed: int


class Deck:
    """Each identity's images, dealt without repetition until all have been seen, then shuffled anew."""

    def __init__(self, labels: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._images: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels.tolist()):
            self._images[label].append(index)
        self._left: dict[int, list[int]] = {label: [] for label in self._images}
        self._rng = rng
        self.identities = np.array(sorted(self._images))

    def deal(self, label: int, count: int) -> list[Draw]:
        """`count` images of one identity; one that has fewer shows some of them again."""
        dealt: list[Draw] = []
        while len(dealt) < count:
            if not self._left[label]:
                self._left[label] = self._rng.permutation(self._images[label]).tolist()
            dealt.append(Draw(self._left[label].pop(), int(self._rng.integers(2**31))))
        return dealt


def pk_batches(
    labels: NDArray[np.int64], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """P identities at random, K images of each: as many batches as show about every image once.

    Args:
        labels: [N], the identity of each training image.
        identities: P of a batch.
        images: K of each identity.
        rng: draws the order, the images and the augmentation seeds.
    """
    deck = Deck(labels, rng)
    wanted = max(1, round(len(labels) / (identities * images)))
    groups: list[list[int]] = []
    while len(groups) < wanted:
        order = rng.permutation(deck.identities).tolist()
        groups += [order[end - identities : end] for end in range(identities, len(order) + 1, identities)]
    return [[draw for label in group for draw in deck.deal(label, images)] for group in groups[:wanted]]


def graph_batches(
    labels: NDArray[np.int64], scores: NDArray[np.float32], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """Each identity with its nearest ones, the hardest to tell apart (Liao and Shao, CVPR 2022): one batch for each.

    Args:
        labels: [N], the identity of each training image.
        scores: [I, I], how alike the identities are by one image each, in the order of their sorted labels.
        identities: P of a batch, the centre among them.
        images: K of each identity.
        rng: draws the order, the images and the augmentation seeds.
    """
    deck = Deck(labels, rng)
    others = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores)
    nearest = np.argsort(-others, axis=1, kind="stable")[:, : identities - 1]
    batches = []
    for centre in rng.permutation(len(deck.identities)):
        group = deck.identities[[*nearest[centre], centre]]
        batches.append([draw for label in group.tolist() for draw in deck.deal(label, images)])
    return batches


def one_image_each(labels: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """The row of one image of each identity, in the order of their sorted labels: what the graph is built from."""
    deck = Deck(labels, rng)
    return [deck.deal(label, 1)[0].row for label in deck.identities.tolist()]
