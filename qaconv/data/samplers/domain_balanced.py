"""Sample P people with K images each, equally many people of each camera network."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qaconv.config.kinds import SamplerSettings
from qaconv.data.samplers import Deck, Draw, TrainingImages


class DomainBalancedSampler(SamplerSettings):
    """P x K batches with equally many people of each domain, so that a large dataset does not outweigh a small one."""

    kind: Literal["domain_balanced"] = "domain_balanced"

    def check(self, images: TrainingImages) -> None:
        """Check that every domain has its share of a batch's people."""
        images.require_people(of_each_domain=True)

    def batches(self, images: TrainingImages, rng: np.random.Generator) -> list[list[Draw]]:
        """Draw the batches of an epoch."""
        return domain_batches(
            images.labels, images.domains, identities=images.identities, images=images.images, rng=rng
        )


def domain_batches(
    labels: NDArray[np.int64], domains: NDArray[Any], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[Draw]]:
    """Draw P x K batches with equally many people of each domain.

    There are as many batches as show about as many images as there are, so images of a small domain come several
    times. If P is not a multiple of the domains, they take turns in having one person more.

    Args:
        labels: person index of each training image, [N].
        domains: camera network of each image, [N]; a person belongs to one.
        identities: people in a batch, P.
        images: images of each person, K.
        rng: draws the order, the images and the augmentation seeds.
    """
    groups = draw_people(labels, domains, identities=identities, images=images, rng=rng)
    deck = Deck(labels, rng)
    return [[draw for label in group for draw in deck.deal(label, images)] for group in groups]


def draw_people(
    labels: NDArray[np.int64], domains: NDArray[Any], *, identities: int, images: int, rng: np.random.Generator
) -> list[list[int]]:
    """Draw the people of each batch of an epoch; arguments as of `domain_batches`."""
    names = np.unique(domains)
    people = {name: np.unique(labels[domains == name]) for name in names.tolist()}
    shuffled: dict[object, list[int]] = {name: [] for name in people}
    groups: list[list[int]] = []
    for batch in range(max(1, round(len(labels) / (identities * images)))):
        groups.append([])
        for turn, name in enumerate(people):
            count = (identities + (turn + batch) % len(people)) // len(people)
            groups[-1] += _take(shuffled[name], people[name], count, rng)
    return groups


def _take(left: list[int], people: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[int]:
    """Take `count` different people from `left`; if too few are left, drop them and shuffle all people again."""
    if len(left) < count:
        left[:] = rng.permutation(people).tolist()
    taken, left[:] = left[:count], left[count:]
    return taken
