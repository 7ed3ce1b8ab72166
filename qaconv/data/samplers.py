"""The people of the training images go in; an epoch's batches come out, each of some identities with several images.

All samplers return lists of draws, so that an epoch can be written down and resumed at any batch.
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


def random_batches(labels: NDArray[np.int64], *, size: int, rng: np.random.Generator) -> list[list[Draw]]:
    """Images in any order, whoever is on them: for losses that need no second image; what fills no batch is left out.

    Args:
        labels: [N], the identity of each training image.
        size: images of a batch.
        rng: draws the order and the augmentation seeds.
    """
    order, seeds = rng.permutation(len(labels)).tolist(), rng.integers(2**31, size=len(labels)).tolist()
    draws = [Draw(row, seed) for row, seed in zip(order, seeds, strict=True)]
    return [draws[end - size : end] for end in range(size, len(draws) + 1, size)]


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
    return domain_batches(labels, np.zeros(len(labels), np.int64), identities=identities, images=images, rng=rng)


def domain_batches(
    labels: NDArray[np.int64], domains: NDArray, *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """P x K with as many identities of each domain in every batch, so that a large training set drowns no small one.

    As many batches as show about as many images as there are; a small domain's come several times. Where P is no
    multiple of the domains, they take turns in having one more.

    Args:
        labels: [N], the identity of each training image.
        domains: [N], the camera network of each; an identity belongs to one.
        identities: P of a batch.
        images: K of each identity.
        rng: draws the order, the images and the augmentation seeds.
    """
    deck = Deck(labels, rng)
    names = np.unique(domains)
    people = {name: np.unique(labels[domains == name]) for name in names.tolist()}
    shuffled: dict[object, list[int]] = {name: [] for name in people}
    groups: list[list[int]] = []
    for batch in range(max(1, round(len(labels) / (identities * images)))):
        groups.append([])
        for turn, name in enumerate(people):
            share = (identities + (turn + batch) % len(people)) // len(people)
            groups[-1] += _next(shuffled[name], people[name], share, rng)
    return [[draw for label in group for draw in deck.deal(label, images)] for group in groups]


def _next(left: list[int], people: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[int]:
    """Takes `count` different people off `left`; when too few are left they are dropped, and all are shuffled anew."""
    if len(left) < count:
        left[:] = rng.permutation(people).tolist()
    taken, left[:] = left[:count], left[count:]
    return taken


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
    batches = []
    for centre in rng.permutation(len(deck.identities)):
        distances = -scores[centre]  # a row at a time: the graph of 10,000 identities is large enough once
        distances[centre] = np.inf
        nearest = np.argsort(distances, kind="stable")[: identities - 1]
        group = deck.identities[[*nearest, centre]]
        batches.append([draw for label in group.tolist() for draw in deck.deal(label, images)])
    return batches


def one_image_each(labels: NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """The row of one image of each identity, in the order of their sorted labels: what the graph is built from."""
    deck = Deck(labels, rng)
    return [deck.deal(label, 1)[0].row for label in deck.identities.tolist()]
