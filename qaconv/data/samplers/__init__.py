"""Draw the batches of an epoch: which images of which people are trained on together.

Samplers return lists of draws, so that an epoch can be saved and resumed at any batch. N training images.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.errors import InputError


class Draw(NamedTuple):
    """An image in a batch: its row among the training images, and the seed of its augmentation."""

    row: int
    seed: int


@dataclass(frozen=True)
class TrainingImages:
    """What a sampler draws batches from.

    Attributes:
        labels: person index of each image, [N].
        domains: camera network of each image, [N]; a person belongs to one.
        camids: camera of each image in its network, [N].
        identities: people in a batch, `train.identities_per_batch`.
        images: images of each person in a batch, `train.images_per_identity`.
        score: match images with the network as it is now: their rows, [n], to logits [n, n].
    """

    labels: NDArray[np.int64]
    domains: NDArray[np.str_]
    camids: NDArray[np.int64]
    identities: int
    images: int
    score: Callable[[Sequence[int]], NDArray[np.float32]]

    def require_people(self, *, of_each_domain: bool = False) -> None:
        """Check that there are as many people as a batch shows.

        Args:
            of_each_domain: whether a batch shows equally many people of each domain. Default: False.

        Raises:
            InputError: there are fewer.
        """
        sources = self.domains if of_each_domain else np.full(len(self.labels), "all sources")
        names = np.unique(sources)
        needed = -(-self.identities // len(names))
        for name in names:
            people = len(np.unique(self.labels[sources == name]))
            if people < needed:
                raise InputError(
                    f"params.yaml: train.identities_per_batch must be in 2..{people * len(names)}, got "
                    f"{self.identities}: a batch shows {needed} people of {name}, where the training images have "
                    f"{people}"
                )


class Deck:
    """The images of each person, dealt without repetition until all have been dealt, then shuffled again.

    Args:
        labels: person index of each image, [N].
        rng: draws the order and the augmentation seeds.
    """

    def __init__(self, labels: NDArray[np.int64], rng: np.random.Generator) -> None:
        self._images: dict[int, list[int]] = defaultdict(list)
        for index, label in enumerate(labels.tolist()):
            self._images[label].append(index)
        self._left: dict[int, list[int]] = {label: [] for label in self._images}
        self._rng = rng
        self.identities = np.array(sorted(self._images))

    def deal(self, label: int, count: int) -> list[Draw]:
        """Deal `count` images of a person; if there are fewer, some of them repeatedly."""
        dealt: list[Draw] = []
        while len(dealt) < count:
            if not self._left[label]:
                self._left[label] = self._rng.permutation(self._images[label]).tolist()
            dealt.append(Draw(self._left[label].pop(), int(self._rng.integers(2**31))))
        return dealt
