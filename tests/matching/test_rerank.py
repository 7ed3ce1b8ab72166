from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.matching.rerank import NeighbourhoodFinder, k_reciprocal, k_reciprocal_sparse


def plain_k_reciprocal(
    distances: NDArray[np.float64], queries: int, k1: int, k2: int, lambda_value: float
) -> NDArray[np.float64]:
    """Zhong et al., CVPR 2017, with dense tables and sets, one image at a time."""
    count = len(distances)
    distances = distances / distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(image: int, k: int) -> set[int]:
        return {int(j) for j in order[image, : k + 1] if image in order[j, : k + 1]}

    encoding = np.zeros((count, count))
    for image in range(count):
        near = reciprocal(image, k1)
        expanded = set(near)
        for neighbour in near:
            half = reciprocal(neighbour, round(k1 / 2))
            if len(half & near) > 2 / 3 * len(half):
                expanded |= half
        chosen = sorted(expanded)
        weights = np.exp(-distances[image, chosen])
        encoding[image, chosen] = weights / weights.sum()
    encoding = np.array([encoding[order[image, :k2]].mean(axis=0) for image in range(count)])
    result = np.zeros((queries, count - queries))
    for query in range(queries):
        for image in range(queries, count):
            shared = np.minimum(encoding[query], encoding[image]).sum()
            jaccard = 1 - shared / (2 - shared)
            result[query, image - queries] = (1 - lambda_value) * jaccard + lambda_value * distances[query, image]
    return result


def make_distances(seed: int, count: int = 40) -> NDArray[np.float64]:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    distances: NDArray[np.float64] = np.linalg.norm(points[:, None] - points, axis=2)
    return distances


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(20, 6), (7, 3), (5, 1)]))
def test_reranked_distances_equal_the_plain_formula(seed: int, neighbours: tuple[int, int]) -> None:
    k1, k2 = neighbours
    table = make_distances(seed)
    reranked = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], k1=k1, k2=k2, lambda_value=0.3)
    np.testing.assert_allclose(reranked, plain_k_reciprocal(table, 9, k1, k2, 0.3), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_the_gallery_only_permutes_the_distances(seed: int) -> None:
    table = make_distances(seed)
    order = np.random.default_rng(seed).permutation(31)
    plain = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:])
    moved = k_reciprocal(table[:9, 9:][:, order], table[:9, :9], table[9:, 9:][np.ix_(order, order)])
    np.testing.assert_allclose(moved, plain[:, order], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 45),
    st.sampled_from([(20, 6), (7, 3), (3, 8), (60, 2)]),
    st.integers(0, 9),
)
def test_tiles_of_any_size_and_single_pairs_give_the_distances_of_whole_tables(
    seed: int, size: int, neighbours: tuple[int, int], wider: int
) -> None:
    k1, k2 = neighbours
    table = make_distances(seed)
    asked: list[tuple[int, int]] = []
    blocks = [slice(start, min(start + size, 40)) for start in range(0, 40, size)]
    tiles = [(rows, columns, table[rows, columns].copy()) for columns in reversed(blocks) for rows in blocks]

    def pair_distances(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.floating]:
        asked.extend(zip(rows.tolist(), columns.tolist(), strict=True))
        distances: NDArray[np.float64] = table[rows, columns]
        return distances

    finder = NeighbourhoodFinder(40, max(k1 + 1, k2) + wider)
    for tile in tiles:
        finder.add(*tile)
    near = finder.neighbourhoods()
    streamed = k_reciprocal_sparse(table[:9, 9:], near, pair_distances, k1=k1, k2=k2)[:]
    whole = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], k1=k1, k2=k2)
    np.testing.assert_allclose(streamed, whole, atol=1e-12)
    np.testing.assert_allclose(streamed, plain_k_reciprocal(table, 9, k1, k2, 0.3), atol=1e-9)
    assert not {(row, column) for row, column in asked if column in near.indices[row]}


def test_the_distance_of_an_image_to_itself_changes_nothing() -> None:
    table = make_distances(1)
    spoilt = table + 9 * np.eye(40)
    plain = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:])
    np.testing.assert_array_equal(k_reciprocal(spoilt[:9, 9:], spoilt[:9, :9], spoilt[9:, 9:]), plain)


def test_lambda_of_one_keeps_the_original_order() -> None:
    table = make_distances(1)
    kept = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], lambda_value=1)
    np.testing.assert_array_equal(kept.argsort(axis=1), table[:9, 9:].argsort(axis=1))


def test_tables_that_do_not_fit_together_are_rejected() -> None:
    table = make_distances(1)
    with pytest.raises(ValueError, match=r"gallery_gallery must have shape \(31, 31\), got \(9, 9\)"):
        k_reciprocal(table[:9, 9:], table[:9, :9], table[:9, :9])


@pytest.mark.parametrize("size", [16, 300])
def test_the_nearest_of_many_columns_are_those_of_the_sorted_table(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qaconv.matching.rerank.BLOCK_COLUMNS", 16)
    table = make_distances(2, count=300).astype(np.float32)
    finder = NeighbourhoodFinder(300, 5, slice(10, 20))
    for start in range(0, 300, size):
        columns = slice(start, min(start + size, 300))
        finder.add(slice(10, 20), columns, table[10:20, columns].copy())
    near = finder.neighbourhoods()
    np.testing.assert_array_equal(near.indices, table[10:20].argsort(axis=1)[:, :5])
    np.testing.assert_array_equal(near.distances, np.sort(table[10:20], axis=1)[:, :5])
    np.testing.assert_array_equal(near.farthest, table[10:20].max(axis=1))


@pytest.mark.parametrize("size", [1, 7, 40])
def test_of_equal_distances_the_first_images_are_near_in_any_order_of_tiles(size: int) -> None:
    table = np.random.default_rng(3).integers(1, 4, (40, 40)).astype(np.float32)
    finder = NeighbourhoodFinder(40, 5, dtype=np.float32)
    for start in reversed(range(0, 40, size)):
        columns = slice(start, min(start + size, 40))
        finder.add(slice(0, 40), columns, table[:, columns].copy())
    np.fill_diagonal(table, 0)
    np.testing.assert_array_equal(finder.neighbourhoods().indices, table.argsort(axis=1, kind="stable")[:, :5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 0}, "k1 must be a whole number from 1, got 0"),
        ({"k2": 2.5}, "k2 must be a whole number from 1, got 2.5"),
        ({"lambda_value": 2}, r"lambda_value must be in \[0, 1\], got 2"),
        ({"query_gallery": [[np.nan, 1]]}, "query_gallery must be finite distances from 0, got 1 of 2"),
        ({"query_gallery": [[-1, 1]]}, "query_gallery must be finite distances from 0, got 1 of 2"),
        ({"query_gallery": [0, 1]}, r"query_gallery must have shape \[Q, G\]"),
        ({"query_gallery": [[]]}, r"query_gallery must have shape \[Q, G\] with at least one gallery image"),
    ],
)
def test_impossible_distances_and_parameters_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    tables: dict[str, Any] = {"query_gallery": [[1, 2]], "query_query": [[0]], "gallery_gallery": [[0, 1], [1, 0]]}
    with pytest.raises(ValueError, match=message):
        k_reciprocal(**(tables | change))
