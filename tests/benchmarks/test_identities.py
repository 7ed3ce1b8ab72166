import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmarks.identities.candidates import candidates
from benchmarks.identities.networks import Network
from benchmarks.identities.plain import average_linkage, components, dbscan, find_threshold, jaccard
from qaconv.identities import Edges

PEOPLE = np.repeat([0, 1, 2], 5)
DISTANCES = np.where(PEOPLE[:, None] == PEOPLE, 0.1, 0.9) * ~np.eye(15, dtype=bool)


def same_groups(identity: NDArray[np.int64]) -> bool:
    return bool(((identity[:, None] == identity) == (PEOPLE[:, None] == PEOPLE)).all())


def test_plain_rules_find_three_people_who_are_far_apart() -> None:
    assert same_groups(components(DISTANCES, 0.5))
    assert same_groups(dbscan(DISTANCES, 0.2, 4))
    assert any(same_groups(identity) for identity in average_linkage(DISTANCES))


def test_re_ranked_distances_are_small_within_a_person_alone() -> None:
    distances = jaccard(DISTANCES, k1=4)
    assert distances[PEOPLE[:, None] == PEOPLE].max() < distances[PEOPLE[:, None] != PEOPLE].min()


def test_dbscan_leaves_a_sighting_without_neighbours_alone_and_adds_one_near_a_core() -> None:
    line = np.array([0.0, 0.1, 0.2, 0.35, 9.0])
    labels = dbscan(abs(line[:, None] - line), 0.2, 3)
    assert len(set(labels[:4])) == 1
    assert labels[4] not in labels[:4]


def test_the_threshold_lets_one_pair_of_two_people_in_a_thousand_through() -> None:
    rng = np.random.default_rng(0)
    pids = np.arange(1, 101)
    network = Network("x", pd.DataFrame({"pid": pids, "split": "query"}), np.zeros((100, 100), np.float32))
    distances = rng.random((100, 100), dtype=np.float32)
    below = distances[~np.eye(100, dtype=bool)] < find_threshold(network, distances)
    assert below.sum() == pytest.approx(10, abs=1)


def test_each_candidate_finds_three_people_whose_pairs_have_high_odds() -> None:
    first, second = np.triu_indices(15, 1)
    edges = Edges.join(first, second, np.where(PEOPLE[first] == PEOPLE[second], 3.0, -5.0))
    clusterings = dict(candidates(edges, 15))
    assert [name for name, identity in clusterings.items() if not same_groups(identity)] == []
    assert {"correlation clustering, greedy and moves", "label propagation"} <= set(clusterings)
