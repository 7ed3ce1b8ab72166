"""How many neighbours count follows from how many sightings of one person are expected."""

from itertools import combinations

import numpy as np
import pytest

from qaconv.identities import similarity
from qaconv.identities.graph import Edges
from qaconv.identities.similarity import K1, count_neighbours, neighbour_similarity


def people(size: int, count: int, between: float) -> tuple[Edges, int]:
    """Return the edges of `count` people with `size` sightings each, and log odds `between` for two of them."""
    pairs = np.array(list(combinations(range(size * count), 2)))
    same = pairs[:, 0] // size == pairs[:, 1] // size
    return Edges.join(pairs[:, 0], pairs[:, 1], np.where(same, 5.0, between)), size * count


@pytest.mark.parametrize(("size", "neighbours"), [(2, K1[0]), (11, 12), (16, 18), (60, K1[1])])
def test_some_more_neighbours_count_than_a_person_has_other_sightings(size: int, neighbours: int) -> None:
    assert count_neighbours(*people(size, 3, between=-6.0)) == neighbours


def test_without_a_pair_the_fewest_count() -> None:
    assert count_neighbours(Edges.join([], [], []), 5) == count_neighbours(Edges.join([], [], []), 0) == K1[0]


def test_people_with_few_sightings_are_less_alike_than_with_as_many_neighbours_as_the_paper_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges, count = people(5, 6, between=-1.5)
    two_people = edges.first // 5 != edges.second // 5
    highest = neighbour_similarity(edges, count)[two_people].max()
    monkeypatch.setattr(similarity, "count_neighbours", lambda *_: 20)
    assert highest < 0.8 * neighbour_similarity(edges, count)[two_people].max()
