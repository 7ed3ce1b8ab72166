import numpy as np
import pytest

from qaconv.identities.graph import Edges
from qaconv.identities.quality import estimate_found, estimate_precision, estimate_purity, pairs_above
from qaconv.identities.truth import measure_people


def edges_of(*pairs: tuple[int, int, float]) -> Edges:
    return Edges.join(*zip(*pairs, strict=True))


def draws(*people: list[int]) -> np.ndarray:
    return np.array(people, dtype=np.int32)


def test_pairs_of_one_camera_are_not_counted_as_matches() -> None:
    edges = edges_of((0, 1, 4.0), (0, 2, 4.0), (1, 2, -1.0))
    assert pairs_above(edges, np.array([0, 1, 0]), 0.5).tolist() == [0]


def test_precision_is_what_the_draws_say_where_the_odds_say_nothing() -> None:
    edges = edges_of((0, 1, 1.0), (2, 3, 1.0))
    people = draws([1, 1, 2, 3], [1, 1, 2, 3])
    precision = estimate_precision(edges, np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1]), people)
    assert [row.threshold for row in precision] == [0.5, 0.7]
    assert precision[0].pairs == 2 and precision[0].value == pytest.approx(0.5)
    assert not estimate_precision(edges_of((0, 1, -1.0)), np.array([1, 1]), np.array([0, 1]), people[:, :2])


def test_found_counts_the_sightings_that_have_another_camera_and_are_joined_with_it() -> None:
    identity, camid = np.array([1, 1, 2, 3, 3]), np.array([0, 1, 1, 0, 1])
    assert estimate_found(identity, camid, draws([7, 7, 7, 8, 9])).value == pytest.approx(2 / 3)


def test_purity_is_the_share_of_the_most_frequent_person() -> None:
    assert estimate_purity(np.array([5, 5, 5, 6]), draws([1, 1, 2, 2])).value == 0.75


def test_labels_say_how_good_identities_are_where_people_are_known() -> None:
    identity, camid = np.array([1, 1, 1, 2]), np.array([0, 1, 1, 0])
    edges = edges_of((0, 1, 4.0), (0, 2, 4.0), (1, 3, 4.0))
    is_known = np.array([True, True, True, False])
    truth = measure_people(identity, camid, np.array([4, 4, 9, -2]), is_known, edges)
    assert (truth.people, truth.found, truth.purity) == (2, 1.0, 2 / 3)
    assert truth.precision[0.9] == 0.5 and 0.99 not in truth.precision
