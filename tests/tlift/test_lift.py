from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.tlift import lift, temporal_lift
from qaconv.tlift.lift import _best, find_neighbours, find_pivots, time_weights

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SEEDS = st.integers(0, 2**32 - 1)


def plain_lift(
    scores: Floats,
    query_camids: Ints,
    query_times: Floats,
    gallery_camids: Ints,
    gallery_times: Floats,
    tau: float,
    sigma: float,
    top_k: int,
    alpha: float,
    once: bool = False,
) -> Floats:
    """Lift by the paper's formula, one query and gallery image at a time; pivots count once or for each neighbour."""
    lifted = np.zeros_like(scores)
    for query, camid in enumerate(query_camids):
        near = [
            i for i in range(len(scores)) if query_camids[i] == camid and abs(query_times[i] - query_times[query]) < tau
        ]
        for image, gallery_camid in enumerate(gallery_camids):
            same = [j for j in range(len(gallery_camids)) if gallery_camids[j] == gallery_camid]
            pairs = sorted(((scores[i, j], j) for i in near for j in same), reverse=True)
            threshold = pairs[min(top_k, len(pairs)) - 1][0]
            pivots = [j for score, j in pairs if score >= threshold]
            pivots = sorted(set(pivots)) if once else pivots
            gaps = np.array([gallery_times[image] - gallery_times[j] for j in pivots])
            lifted[query, image] = (np.exp(-(gaps**2) / sigma**2).mean() + alpha) * scores[query, image]
    return lifted


def sightings(seed: int, queries: int = 9, galleries: int = 17) -> tuple[Floats, Ints, Floats, Ints, Floats]:
    rng = np.random.default_rng(seed)
    return (
        np.round(rng.random((queries, galleries)) ** 3, 2),  # with ties
        rng.integers(0, 3, queries),
        rng.uniform(0, 900, queries),
        rng.integers(0, 3, galleries),
        rng.uniform(0, 900, galleries),
    )


@settings(deadline=None)
@given(SEEDS, st.integers(1, 12), st.sampled_from([20, 200]), st.sampled_from(["each", "once"]), st.integers(1, 60))
def test_lifted_scores_equal_the_plain_loops_for_any_block_size(
    seed: int, top_k: int, sigma: float, counts: Any, entries: int
) -> None:
    data = sightings(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lift, "ENTRIES", entries)
        patch.setattr(lift, "ROWS", 1 + entries % 4)
        lifted = temporal_lift(*data, tau=150, sigma=sigma, top_k=top_k, alpha=0.2, pivot_counts=counts)
    np.testing.assert_allclose(lifted, plain_lift(*data, 150, sigma, top_k, 0.2, counts == "once"), rtol=1e-6)


def test_scores_in_float32_are_lifted_as_the_same_numbers_in_float64() -> None:
    scores, *seen = sightings(1)
    single = scores.astype(np.float32)
    np.testing.assert_array_equal(temporal_lift(single, *seen), temporal_lift(single.astype(np.float64), *seen))


@pytest.mark.parametrize(("queries", "galleries"), [(0, 3), (2, 0)])
def test_a_table_without_entries_stays_one(queries: int, galleries: int) -> None:
    seen = (np.zeros(queries), np.zeros(queries), np.zeros(galleries), np.zeros(galleries))
    assert temporal_lift(np.zeros((queries, galleries)), *seen).shape == (queries, galleries)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(1, 500))
def test_the_best_of_a_long_row_are_those_of_sorting_it(seed: int, top_k: int, columns: int) -> None:
    scores = np.round(np.random.default_rng(seed).random((5, columns)) ** 3, 2)  # with ties
    row, column, value = _best(scores, min(top_k, columns))
    last = np.sort(scores, axis=1)[:, -min(top_k, columns)]
    expected = np.nonzero(scores >= last[:, None])
    assert (row.tolist(), column.tolist()) == tuple(map(np.ndarray.tolist, expected))
    assert (value == scores[expected]).all()


def test_a_pivot_of_two_neighbours_counts_twice_or_once() -> None:
    data = ([[0.9, 0.1, 0.1], [0.9, 0.8, 0.1]], [0, 0], [0.0, 1.0], [1, 1, 1], [0.0, 1000.0, 2000.0])
    each, once = (temporal_lift(*data, top_k=3, alpha=0, pivot_counts=counts)[0, 0] for counts in ("each", "once"))
    assert each == pytest.approx(0.9 * 2 / 3) and once == pytest.approx(0.9 / 2)


def test_a_query_without_companions_has_no_weight_from_them() -> None:
    scores, times = np.array([[0.9, 0.2]]), np.array([0.0])
    alone = find_neighbours(np.zeros(1), times, tau=100, with_itself=False)
    pivots = find_pivots(scores, alone, top_k=1)
    assert time_weights(pivots, np.array([0.0, 5.0]), 10.0).tolist() == [[0.0, 0.0]]


@settings(deadline=None)
@given(SEEDS)
def test_constant_clock_offset_changes_no_lifted_score(seed: int) -> None:
    scores, query_camids, query_times, gallery_camids, gallery_times = sightings(seed)
    offset = np.random.default_rng(seed).uniform(-5000, 5000, 3)
    moved = temporal_lift(
        scores, query_camids, query_times + offset[query_camids], gallery_camids, gallery_times + offset[gallery_camids]
    )
    np.testing.assert_allclose(moved, temporal_lift(scores, query_camids, query_times, gallery_camids, gallery_times))


def test_a_query_camera_without_gallery_images_is_allowed() -> None:
    lifted = temporal_lift([[0.5, 0.1]], [7], [0.0], [0, 0], [0.0, 10.0], top_k=1)
    assert lifted[0, 0] == pytest.approx(0.5 * 1.2)


def test_the_match_of_a_companion_lifts_the_query() -> None:
    scores = [[0.30, 0.31, 0.05, 0.05], [0.05, 0.05, 0.95, 0.05]]  # the query is unsure; its companion is not
    lifted = temporal_lift(scores, [0, 0], [0, 5], [1, 1, 1, 1], [100, 2000, 103, 2400], top_k=1)
    assert lifted[0].argmax() == 0


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"top_k": 1.5}, "top_k must be a whole number of at least 1, got 1.5"),
        ({"tau": -1}, "tau must be above 0 seconds, got -1"),
        ({"tau": np.nan}, "tau must be above 0 seconds, got nan"),
        ({"sigma": 0}, "sigma must be above 0 seconds, got 0"),
        ({"alpha": np.nan}, "alpha must be at least 0 and finite, got nan"),
        ({"alpha": -0.1}, "alpha must be at least 0 and finite, got -0.1"),
        ({"pivot_counts": "both"}, "unknown pivot_counts 'both', allowed: each, once"),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        temporal_lift([[0.5]], [0], [10], [1], [20], **argument)


def test_a_camera_that_is_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="gallery_camids must be known, got 1 of 2 that are NaN"):
        temporal_lift([[0.5, 0.5]], [0], [10], [1, np.nan], [20, 30])


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="gallery_times must be finite numbers, got 1 of 2"):
        temporal_lift([[0.5, 0.5]], [0], [0.0], [0, 0], [0.0, np.nan])
