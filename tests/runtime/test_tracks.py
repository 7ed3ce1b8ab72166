"""Two tracks are as alike as their crops are to the most similar crops of the other."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.runtime.tracks import first_sightings, mean_scores, number_tracks, rank_in_tracks, score_tracks

NAMES = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=7)


def score_two(block: NDArray[np.float64]) -> float:
    """Score two tracks by the definition, crop by crop."""
    rows = [float(max(row)) for row in block]
    columns = [float(max(column)) for column in block.T]
    return (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2


@settings(max_examples=60, deadline=None)
@given(NAMES, NAMES, st.integers(0, 1000))
def test_tracks_have_the_mean_of_each_crops_best_score(query: list[str], gallery: list[str], seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(len(query), len(gallery)))
    rows, columns = number_tracks(query), number_tracks(gallery)
    scored = score_tracks(scores, rows, columns)
    expected = [
        [score_two(scores[np.ix_(rows == row, columns == column)]) for column in range(columns.max() + 1)]
        for row in range(rows.max() + 1)
    ]
    np.testing.assert_allclose(scored, expected, rtol=1e-12)
    np.testing.assert_allclose(score_tracks(scores.T, columns, rows), scored.T, rtol=1e-12)
    means = [
        [scores[np.ix_(rows == row, columns == column)].mean() for column in range(columns.max() + 1)]
        for row in range(rows.max() + 1)
    ]
    np.testing.assert_allclose(mean_scores(scores, rows, columns), means, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(NAMES)
def test_a_sighting_without_a_track_is_a_track_of_its_own(names: list[str]) -> None:
    numbers = number_tracks(names)
    assert len(set(numbers.tolist())) == len({name for name in names if name}) + names.count("")
    for one in range(len(names)):
        for other in range(one):
            same = names[one] == names[other] != ""
            assert (numbers[one] == numbers[other]) == same
    first = first_sightings(numbers)
    assert first.tolist() == sorted(first.tolist())
    assert numbers[first].tolist() == list(range(len(first)))


def test_crops_that_are_tracks_of_their_own_keep_their_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_array_equal(score_tracks(scores, np.arange(3), np.arange(4)), scores)
    np.testing.assert_array_equal(mean_scores(scores, np.arange(3), np.arange(4)), scores)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([0.0, 1.0])), max_size=7))
def test_sightings_of_a_track_are_ranked_by_score_and_then_by_id(sightings: list[tuple[str, float]]) -> None:
    numbers = number_tracks([name for name, _ in sightings])
    scores = [score for _, score in sightings]
    ids = np.arange(len(sightings))[::-1]
    members = rank_in_tracks(scores, numbers, ids)
    assert len(members) == len(set(numbers.tolist()))
    for track, positions in enumerate(members):
        assert set(positions.tolist()) == set(np.flatnonzero(numbers == track).tolist())
        keys = [(-scores[position], ids[position]) for position in positions]
        assert keys == sorted(keys)


@pytest.mark.parametrize("rule", [score_tracks, mean_scores])
def test_empty_gallery_has_no_scores(rule: Callable[..., NDArray[np.float64]]) -> None:
    assert rule(np.zeros((2, 0)), number_tracks(["a", "a"]), number_tracks([])).shape == (1, 0)


@pytest.mark.parametrize("rule", [score_tracks, mean_scores])
def test_table_of_another_shape_is_refused(rule: Callable[..., NDArray[np.float64]]) -> None:
    with pytest.raises(ValueError, match=r"scores must have shape \(2, 1\)"):
        rule(np.zeros((1, 2)), np.arange(2), np.arange(1))
