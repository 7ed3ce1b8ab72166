import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.matching.rerank import NeighbourhoodFinder, k_reciprocal, k_reciprocal_sparse


def plain_k_reciprocal(distances, queries, k1, k2, lambda_value):
    """Zhong et al., CVPR 2017, with dense tables and sets, one image at a time."""
    count = len(distances)
    distances = distances / distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(image, k):
        return {int(j) for j in order[image, : k + 1] if image in order[j, : k + 1]}

    encoding = np.zeros((count, count))
    for image in range(count):
        near = reciprocal(image, k1)
        expanded = set(near)
        for neighbour in near:
            theirs = reciprocal(neighbour, round(k1 / 2))
            if len(theirs & near) > 2 / 3 * len(theirs):
                expanded |= theirs
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


def distances_of(seed, count=40):
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return np.linalg.norm(points[:, None] - points, axis=2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(20, 6), (7, 3), (5, 1)]))
def test_reranked_distances_equal_the_plain_formula(seed, neighbours):
    k1, k2 = neighbours
    table = distances_of(seed)
    ours = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], k1=k1, k2=k2, lambda_value=0.3)
    np.testing.assert_allclose(ours, plain_k_reciprocal(table, 9, k1, k2, 0.3), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_of_the_gallery_only_permutes_the_distances(seed):
    table = distances_of(seed)
    order = np.random.default_rng(seed).permutation(31)
    plain = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:])
    moved = k_reciprocal(table[:9, 9:][:, order], table[:9, :9], table[9:, 9:][np.ix_(order, order)])
    np.testing.assert_allclose(moved, plain[:, order], atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 45),
    st.sampled_from([(20, 6), (7, 3), (3, 8), (60, 2)]),
    st.integers(0, 9),
)
def test_tiles_of_any_size_and_single_pairs_give_what_whole_tables_give(seed, size, neighbours, wider):
    k1, k2 = neighbours
    table, asked = distances_of(seed), []
    blocks = [slice(start, min(start + size, 40)) for start in range(0, 40, size)]
    tiles = [(rows, columns, torch.tensor(table[rows, columns])) for columns in reversed(blocks) for rows in blocks]

    def distances_of_pairs(rows, columns):
        asked.extend(zip(rows.tolist(), columns.tolist(), strict=True))
        return table[rows, columns]

    finder = NeighbourhoodFinder(40, max(k1 + 1, k2) + wider)
    for tile in tiles:
        finder.add(*tile)
    found = finder.found()
    streamed = k_reciprocal_sparse(table[:9, 9:], found, distances_of_pairs, k1=k1, k2=k2)
    whole = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], k1=k1, k2=k2)
    np.testing.assert_allclose(streamed, whole, atol=1e-12)
    np.testing.assert_allclose(streamed, plain_k_reciprocal(table, 9, k1, k2, 0.3), atol=1e-9)
    assert not {(row, column) for row, column in asked if column in found.indices[row]}


def test_what_an_image_scores_against_itself_changes_nothing():
    table = distances_of(1)
    spoilt = table + 9 * np.eye(40)
    plain = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:])
    np.testing.assert_array_equal(k_reciprocal(spoilt[:9, 9:], spoilt[:9, :9], spoilt[9:, 9:]), plain)


def test_lambda_of_one_keeps_the_original_order():
    table = distances_of(1)
    kept = k_reciprocal(table[:9, 9:], table[:9, :9], table[9:, 9:], lambda_value=1)
    np.testing.assert_array_equal(kept.argsort(axis=1), table[:9, 9:].argsort(axis=1))


def test_tables_that_do_not_fit_are_refused():
    table = distances_of(1)
    with pytest.raises(ValueError, match=r"gallery_gallery has shape \(9, 9\); expected \(31, 31\)"):
        k_reciprocal(table[:9, 9:], table[:9, :9], table[:9, :9])
