"""Distances among queries and gallery go in; distances that heed who else is near come out.

k-reciprocal encoding (Zhong et al., CVPR 2017). Q queries, G gallery images, N = Q + G.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse


def k_reciprocal(
    query_gallery: ArrayLike,
    query_query: ArrayLike,
    gallery_gallery: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> NDArray[np.float64]:
    """Distances [Q, G]: lambda_value of the original, the rest of the Jaccard distance of the neighbourhoods.

    Args:
        query_gallery: [Q, G], not negative; smaller is nearer.
        query_query: [Q, Q].
        gallery_gallery: [G, G].
        k1: neighbours that must name each other.
        k2: nearest whose neighbourhoods are averaged.
        lambda_value: share of the original distance, in [0, 1].

    Raises:
        ValueError: shapes do not fit.
    """
    across = np.asarray(query_gallery, dtype=np.float64)
    queries, galleries = across.shape
    blocks = [[np.asarray(query_query), across], [across.T, np.asarray(gallery_gallery)]]
    for name, block, size in (("query_query", blocks[0][0], queries), ("gallery_gallery", blocks[1][1], galleries)):
        if block.shape != (size, size):
            raise ValueError(f"{name} has shape {block.shape}; expected {(size, size)}")
    distances = np.block(blocks)
    np.fill_diagonal(distances, 0)  # an image is its own nearest, whatever the score of a crop against itself
    distances /= np.maximum(distances.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    order = np.argsort(distances, axis=1, kind="stable")

    encoding = _encode(distances, order, k1)
    if k2 > 1:
        encoding = _average(encoding, order[:, :k2])
    return (1 - lambda_value) * _jaccard(encoding, queries) + lambda_value * distances[:queries, queries:]


def _encode(distances: NDArray[np.float64], order: NDArray[np.intp], k1: int) -> sparse.csr_array:
    """[N, N]: each image's k-reciprocal neighbours, expanded by theirs where they agree, weighted by exp(-distance)."""
    near, half = _reciprocal(order, k1), _reciprocal(order, round(k1 / 2))
    rows, columns = [], []
    for image, neighbours in enumerate(near):
        mine = set(neighbours)
        expanded = set(mine)
        for neighbour in neighbours:
            theirs = half[neighbour]
            if 3 * len(mine.intersection(theirs)) > 2 * len(theirs):
                expanded.update(theirs)
        columns.append(np.sort(np.fromiter(expanded, dtype=np.intp)))
        rows.append(np.full(len(expanded), image))
    row, column = np.concatenate(rows), np.concatenate(columns)
    weights = np.exp(-distances[row, column])
    total = np.bincount(row, weights, minlength=len(order))
    return sparse.csr_array((weights / total[row], (row, column)), shape=distances.shape)


def _reciprocal(order: NDArray[np.intp], k: int) -> list[list[int]]:
    """For each image, those of its k + 1 nearest (itself among them) that have it among theirs."""
    forward = order[:, : k + 1]
    mutual = (forward[forward] == np.arange(len(order))[:, None, None]).any(axis=2)
    return [nearest[named].tolist() for nearest, named in zip(forward, mutual, strict=True)]


def _average(encoding: sparse.csr_array, nearest: NDArray[np.intp]) -> sparse.csr_array:
    """Each image's encoding as the mean over its k2 nearest (query expansion)."""
    images, k2 = nearest.shape
    picks = sparse.csr_array(
        (np.full(images * k2, 1 / k2), (np.repeat(np.arange(images), k2), nearest.ravel())), shape=(images, images)
    )
    return picks @ encoding


def _jaccard(encoding: sparse.csr_array, queries: int) -> NDArray[np.float64]:
    """[Q, G]: 1 - sum of minima / sum of maxima; rows sum to 1, so the maxima sum to 2 - minima."""
    by_column = encoding[queries:].tocsc()
    shared = np.zeros((queries, encoding.shape[0] - queries))
    for query in range(queries):
        start, end = encoding.indptr[query : query + 2]
        for column, weight in zip(encoding.indices[start:end], encoding.data[start:end], strict=True):
            first, last = by_column.indptr[column : column + 2]
            shared[query, by_column.indices[first:last]] += np.minimum(weight, by_column.data[first:last])
    return 1 - shared / (2 - shared)
