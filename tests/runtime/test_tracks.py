"""Two tracks are as alike as their crops are to the most similar crops of the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.runtime.tracks import first_sightings, number_tracks, score_tracks

NAMES = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=7)


def score_two(block: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> float:
    """Score two tracks by the definition, crop by crop."""
    rows = [max(row) for row in block]
    columns = [max(column) for column in block.T]
    return (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2


@settings(max_examples=60, deadline=None)
@given(NAMES, NAMES, st.integers(0, 1000))
def test_tracks_have_the_mean_of_each_crops_best_score(query: list[str], gallery: list[str], seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(len(query), len(gallery)))
    rows, columns = number_tracks(query), number_tracks(gallery)
    found = score_tracks(scores, rows, columns)
    expected = [
        [score_two(scores[np.ix_(rows == row, columns == column)]) for column in range(columns.max() + 1)]
        for row in range(rows.max() + 1)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(score_tracks(scores.T, columns, rows), found.T, rtol=1e-12)


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


def test_empty_gallery_has_no_scores() -> None:
    assert score_tracks(np.zeros((2, 0)), number_tracks(["a", "a"]), number_tracks([])).shape == (1, 0)


def test_table_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores must have shape \(2, 1\)"):
        score_tracks(np.zeros((1, 2)), np.arange(2), np.arange(1))
