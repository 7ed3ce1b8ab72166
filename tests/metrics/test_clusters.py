from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.metrics.clusters import measure_b_cubed, measure_clusters, shows_known_person

Labels = list[int]
few = settings(max_examples=30, deadline=None)


@st.composite
def sightings(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Return identities and people of the same few sightings."""
    size = draw(st.integers(1, 12))
    numbers = st.lists(st.integers(0, 4), min_size=size, max_size=size)
    return draw(numbers), draw(numbers)


def test_measures_of_a_small_example_are_those_computed_by_hand() -> None:
    """Bagga and Baldwin's example of two merged people: sightings 1-5, 6-7 and 8-12, the last two merged."""
    people = [1] * 5 + [2] * 2 + [3] * 5
    metrics = measure_clusters([1] * 5 + [2] * 7, people)
    assert metrics.pairwise == pytest.approx((21 / 31, 1))
    assert metrics.b_cubed == pytest.approx(((5 + 2 * 2 / 7 + 5 * 5 / 7) / 12, 1))
    assert metrics.idf1 == pytest.approx(10 / 12)
    assert (metrics.identities, metrics.people) == (2, 3)


def test_a_person_who_is_split_costs_recall_alone() -> None:
    metrics = measure_clusters([1, 1, 2, 2, 3], [7, 7, 7, 7, 8])
    assert metrics.pairwise == pytest.approx((1, 2 / 6))
    assert metrics.b_cubed == pytest.approx((1, (4 * 1 / 2 + 1) / 5))
    assert metrics.b_cubed.f1 == pytest.approx(2 * 0.6 / 1.6)
    assert metrics.idf1 == pytest.approx(3 / 5)


def test_two_identities_are_not_assigned_to_one_person() -> None:
    """The larger share of person 1 goes to identity 1, though identity 2 shares most sightings with person 1 too."""
    assert measure_clusters([1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 1, 1, 3]).idf1 == pytest.approx(4 / 7)


def test_without_pairs_in_one_identity_pairwise_precision_is_1() -> None:
    metrics = measure_clusters([1, 2, 3], [5, 5, 6])
    assert metrics.pairwise == (1, 0)
    assert metrics.pairwise.f1 == 0


@few
@given(sightings())
def test_measures_equal_those_that_go_over_every_pair_and_every_assignment(case: tuple[Labels, Labels]) -> None:
    identity, person = case
    metrics = measure_clusters(identity, person)
    size = range(len(identity))
    together = {pair for pair in combinations(size, 2) if identity[pair[0]] == identity[pair[1]]}
    true = {pair for pair in combinations(size, 2) if person[pair[0]] == person[pair[1]]}
    assert metrics.pairwise.precision == pytest.approx(len(together & true) / len(together) if together else 1)
    assert metrics.pairwise.recall == pytest.approx(len(together & true) / len(true) if true else 1)
    mates = [{other for other in size if identity[other] == identity[one]} for one in size]
    same = [{other for other in size if person[other] == person[one]} for one in size]
    shared = [len(mates[one] & same[one]) for one in size]
    assert metrics.b_cubed.precision == pytest.approx(np.mean([shared[one] / len(mates[one]) for one in size]))
    assert metrics.b_cubed.recall == pytest.approx(np.mean([shared[one] / len(same[one]) for one in size]))
    assert measure_b_cubed(identity, person) == metrics.b_cubed
    names = sorted(set(identity))
    padded = sorted(set(person)) + [-1] * len(names)
    most = max(
        sum(dict(zip(names, people, strict=True))[one] == other for one, other in zip(identity, person, strict=True))
        for people in set(permutations(padded, len(names)))
    )
    assert metrics.idf1 == pytest.approx(most / len(identity))


@few
@given(sightings(), st.permutations(range(5)), st.permutations(range(5)))
def test_measures_do_not_depend_on_the_numbers(case: tuple[Labels, Labels], one: Labels, other: Labels) -> None:
    identity, person = case
    renumbered = measure_clusters([one[number] for number in identity], [other[number] for number in person])
    assert np.allclose(renumbered.pairwise, measure_clusters(identity, person).pairwise)
    assert np.allclose(renumbered.b_cubed, measure_clusters(identity, person).b_cubed)
    assert renumbered[2:] == measure_clusters(identity, person)[2:]


@few
@given(sightings())
def test_perfect_identities_score_1_and_exchanged_roles_exchange_precision_and_recall(
    case: tuple[Labels, Labels],
) -> None:
    identity, person = case
    perfect = measure_clusters(person, person)
    assert (perfect.pairwise, perfect.b_cubed, perfect.idf1) == ((1, 1), (1, 1), 1)
    metrics, exchanged = measure_clusters(identity, person), measure_clusters(person, identity)
    assert exchanged.pairwise == pytest.approx(metrics.pairwise[::-1])
    assert exchanged.b_cubed == pytest.approx(metrics.b_cubed[::-1])
    assert exchanged.idf1 == pytest.approx(metrics.idf1)


def test_sightings_without_a_known_person_are_not_measured() -> None:
    table = pd.DataFrame({"pid": [3, 3, 0, -1, -2], "split": ["query", *["gallery"] * 4]})
    assert shows_known_person(table).tolist() == [True, True, False, False, False]


def test_a_pid_of_0_that_a_query_has_is_a_person() -> None:
    table = pd.DataFrame({"pid": [0, 0, 1], "split": ["query", "gallery", "gallery"]})
    assert shows_known_person(table).all()


def test_identities_of_other_sightings_are_refused() -> None:
    message = r"identities and pids must have the same shape \[N\] with at least one sighting, got \(2,\) and \(3,\)"
    with pytest.raises(ValueError, match=message):
        measure_clusters([1, 2], [1, 2, 3])
