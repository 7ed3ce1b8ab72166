from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.identities import Edges, identify
from qaconv.identities.clustering import JOIN, average_linkage

Ints = NDArray[np.int64]
Table = dict[tuple[int, int], float]


def table_of(count: int, *, tracks: list[str] | None = None, times: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "camid": np.zeros(count, dtype=np.int64),
            "time_s": np.arange(count, dtype=float) if times is None else times,
            "track": [""] * count if tracks is None else tracks,
        }
    )


def edges_of(pairs: Table) -> Edges:
    one, other = zip(*pairs, strict=True) if pairs else ((), ())
    return Edges.join(one, other, list(pairs.values()))


def plain_clusters(sizes: list[int], pairs: Table) -> set[frozenset[int]]:
    """Join the two clusters with the highest mean until none is above JOIN, with a full table."""
    sums = np.zeros((len(sizes), len(sizes)))
    for (a, b), value in pairs.items():
        sums[a, b] = sums[b, a] = value
    clusters = [frozenset([number]) for number in range(len(sizes))]
    while len(clusters) > 1:
        mean, joined, other = max(
            (
                sum(sums[a, b] for a, b in product(left, right))
                / (sum(sizes[a] for a in left) * sum(sizes[b] for b in right)),
                left,
                right,
            )
            for left, right in combinations(clusters, 2)
        )
        if mean <= JOIN:
            break
        clusters = [cluster for cluster in clusters if cluster not in (joined, other)] + [joined | other]
    return set(clusters)


def partition(identity: Ints) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(identity == number).tolist()) for number in np.unique(identity)}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], Table]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=8))
    pairs = draw(st.lists(st.sampled_from(list(combinations(range(len(sizes)), 2))), unique=True))
    # With distinct values no two means are equal, so that only one order of joining is right.
    means = np.random.default_rng(draw(st.integers(0, 1000))).uniform(0, 1, len(pairs))
    sums = [mean * sizes[one] * sizes[other] for mean, (one, other) in zip(means.tolist(), pairs, strict=True)]
    return sizes, dict(zip(pairs, sums, strict=True))


@settings(max_examples=60)
@given(graphs())
def test_clusters_are_those_of_average_linkage_over_all_pairs(graph: tuple[list[int], Table]) -> None:
    sizes, pairs = graph
    one, other = np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T
    clusters = average_linkage(np.array(sizes), one, other, np.array(list(pairs.values())), [])
    assert partition(clusters) == plain_clusters(sizes, pairs)


@example(282, [5, 10, 9, 1, 7, 6, 11, 4, 2, 0, 3, 8])  # two pairs are equally similar
@settings(max_examples=30)
@given(st.integers(0, 1000), st.permutations(range(12)))
def test_the_order_of_the_sightings_changes_no_identity(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    pairs = {pair: rng.uniform(-5, 5) for pair in combinations(range(12), 2) if rng.random() < 0.5}
    shuffled = {(order[one], order[other]): value for (one, other), value in pairs.items()}
    before = identify(table_of(12), edges_of(pairs)).identity
    after = identify(table_of(12), edges_of(shuffled)).identity
    assert partition(after[order]) == partition(before)


def test_two_tracks_that_overlap_in_time_on_one_camera_stay_two_people() -> None:
    sightings = table_of(5, tracks=["a", "a", "b", "b", ""], times=[0, 10, 5, 15, 100])
    strong = edges_of(dict.fromkeys(combinations(range(5), 2), 5.0))
    identity = identify(sightings, strong).identity
    assert identity[0] == identity[1] != identity[2] == identity[3]
    one_after_another = sightings.assign(time_s=[0, 4, 5, 15, 100])
    assert len(set(identify(one_after_another, strong).identity)) == 1


def test_tracks_of_two_cameras_may_overlap_in_time() -> None:
    sightings = table_of(4, tracks=["a", "a", "b", "b"], times=[0, 10, 5, 15]).assign(camid=[0, 0, 1, 1])
    assert len(set(identify(sightings, edges_of(dict.fromkeys(combinations(range(4), 2), 5.0))).identity)) == 1


def test_a_track_stays_together_although_some_of_its_crops_look_different() -> None:
    sightings = table_of(3, tracks=["a", "a", "a"])
    assert len(set(identify(sightings, edges_of({(0, 1): 3.0, (1, 2): 3.0})).identity)) == 1


def test_a_track_is_cut_where_the_tracker_goes_on_with_another_person() -> None:
    sightings = table_of(5, tracks=["a"] * 4 + [""])
    result = identify(sightings, edges_of({(0, 1): 5.0, (2, 3): 5.0, (2, 4): 5.0, (3, 4): 5.0}))
    assert (result.identity.tolist(), result.cut_tracks) == ([1, 1, 2, 2, 2], ("a",))


def test_a_sighting_that_two_identities_claim_belongs_to_its_own_with_less_probability() -> None:
    pairs = {(0, 1): 2.0, (2, 3): 5.0}
    sure = identify(table_of(4), edges_of(pairs))
    torn = identify(table_of(4), edges_of({**pairs, (0, 2): -2.1, (0, 3): -2.1}))
    assert sure.identity.tolist() == torn.identity.tolist() == [1, 1, 2, 2]
    assert torn.probability[0] < 0.875 < 0.88 < sure.probability[0]
    assert torn.probability[1].round(6) == sure.probability[1].round(6)


def test_a_sighting_like_no_other_is_alone_with_certainty() -> None:
    assert identify(table_of(3), edges_of({(0, 1): 4.0})).probability[2] > 0.99


def test_a_new_sighting_joins_a_known_identity_which_keeps_its_number() -> None:
    result = identify(
        table_of(4), edges_of({(0, 1): 5.0, (1, 3): 5.0, (0, 3): 5.0}), known=np.array([7, 7, 9, 0]), last=9
    )
    assert result.identity.tolist() == [7, 7, 9, 7]
    assert result.changes.empty


def test_an_identity_that_no_new_sighting_belongs_to_is_not_clustered_again() -> None:
    known = np.array([1, 2, 3, 0])
    pairs = {(0, 1): 5.0, (2, 3): 5.0}  # a change of 1 and 2 would be right, but nothing new has come
    assert identify(table_of(4), edges_of(pairs), known=known, last=3).identity.tolist() == [1, 2, 3, 3]


def test_a_new_sighting_of_a_known_track_joins_its_identity() -> None:
    sightings = table_of(4, tracks=["a", "a", "b", "a"])
    result = identify(
        sightings, edges_of({(0, 1): 5.0, (0, 3): -1.5, (1, 3): -1.5}), known=np.array([4, 4, 6, 0]), last=6
    )
    assert result.identity.tolist() == [4, 4, 6, 4]


def test_a_known_track_that_is_two_people_now_has_probabilities_by_its_parts() -> None:
    sightings = table_of(5, tracks=["a", "a", "a", "b", ""])
    pairs = dict.fromkeys(combinations(range(3), 2), 5.0) | {(0, 3): 2.0, (2, 3): -4.0}
    found = identify(sightings, edges_of(pairs), known=np.array([1, 1, 2, 1, 0]), last=2)
    assert found.identity.tolist() == [1, 1, 2, 1, 3]
    assert ((found.probability > 0) & (found.probability < 1)).all()


def test_a_sighting_that_joins_two_known_identities_merges_them() -> None:
    pairs = dict.fromkeys(combinations(range(4), 2), 5.0)
    result = identify(table_of(4), edges_of(pairs), known=np.array([4, 4, 6, 0]), last=8)
    assert result.identity.tolist() == [4, 4, 4, 4]
    assert result.changes.to_numpy().tolist() == [["merge", 4, 6]]


def test_a_known_identity_that_new_sightings_pull_apart_is_split_and_a_number_is_never_given_again() -> None:
    pairs = {(0, 1): -5.0, (1, 2): 5.0}
    result = identify(table_of(3), edges_of(pairs), known=np.array([5, 5, 0]), last=20)
    assert result.identity[1] == result.identity[2] != result.identity[0]
    assert set(result.identity.tolist()) == {5, 21}
    assert result.changes["kind"].tolist() == ["split"]


def test_a_pair_that_is_unlikely_to_show_one_person_is_not_joined_in_a_small_gallery() -> None:
    assert identify(table_of(3), edges_of({(0, 1): -2.5, (1, 2): -2.5, (0, 2): -2.5})).identity.tolist() == [1, 2, 3]


def test_sightings_without_edges_are_identities_of_their_own() -> None:
    result = identify(table_of(3), edges_of({}))
    assert (result.identity.tolist(), result.probability.round(2).tolist()) == ([1, 2, 3], [1.0] * 3)


def test_an_edge_to_a_sighting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="of 2 sightings"):
        identify(table_of(2), edges_of({(0, 2): 1.0}))
