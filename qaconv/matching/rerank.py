"""Distances among queries and gallery go in; distances that heed who else is near come out.

k-reciprocal encoding (Zhong et al., CVPR 2017). The formula asks for each image's nearest, its farthest and some
single pairs, so no table of all pairs is needed. Q queries, G gallery images, N = Q + G images, queries first,
K neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor

BLOCK_QUERIES = 64  # whose neighbourhoods are compared at a time: their sums stay in cache

Floats = NDArray[np.floating]
Indices = NDArray[np.integer]
Distances = Callable[[Indices, Indices], Floats]


@dataclass(frozen=True)
class Neighbourhoods:
    """What re-ranking knows of each image's distances to all N.

    Attributes:
        indices: [N, K], the nearest, nearest first, the image itself among them.
        distances: [N, K], theirs.
        farthest: [N], the largest distance.
    """

    indices: NDArray[np.int64]
    distances: Floats
    farthest: Floats


def k_reciprocal(
    query_gallery: ArrayLike,
    query_query: ArrayLike,
    gallery_gallery: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Floats:
    """Distances [Q, G]: lambda_value of the original, the rest of the Jaccard distance of the neighbourhoods.

    From tables of all pairs; `k_reciprocal_sparse` does without them.

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
    across, among_queries, among_gallery = map(np.asarray, (query_gallery, query_query, gallery_gallery))
    queries, galleries = across.shape
    for name, part, size in (("query_query", among_queries, queries), ("gallery_gallery", among_gallery, galleries)):
        if part.shape != (size, size):
            raise ValueError(f"{name} has shape {part.shape}; expected {(size, size)}")
    table = np.block([[among_queries, across], [across.T, among_gallery]])
    finder, everything = NeighbourhoodFinder(len(table), max(k1 + 1, k2)), slice(0, len(table))
    finder.add(everything, everything, torch.from_numpy(table))
    return k_reciprocal_sparse(
        across, finder.found(), lambda rows, columns: table[rows, columns], k1=k1, k2=k2, lambda_value=lambda_value
    )


def k_reciprocal_sparse(
    query_gallery: Floats,
    found: Neighbourhoods,
    distances_of: Distances,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Floats:
    """As `k_reciprocal`, with the same result, in memory that grows with Q x G and N x K but not with N x N.

    Args:
        query_gallery: [Q, G].
        found: at least k1 + 1 and k2 of each image's nearest.
        distances_of: those [n] of n pairs, given the indices [n] of either side; for the pairs that are in a
            neighbourhood without being near enough to be in `found`.
        k1: as in `k_reciprocal`.
        k2: the same.
        lambda_value: the same.
    """
    queries = len(query_gallery)
    encoding = _encode(found, distances_of, k1)
    if k2 > 1:
        encoding = _average(encoding, found.indices[:, :k2])
    by_column = encoding[queries:].tocsc()
    result = query_gallery * (lambda_value / _positive(found.farthest[:queries, None])).astype(query_gallery.dtype)
    for start in range(0, queries, BLOCK_QUERIES):
        block = slice(start, min(start + BLOCK_QUERIES, queries))
        shared = _sums_of_minima(encoding[block], by_column)
        # Rows of the encoding sum to 1, so the sum of maxima, which Jaccard divides by, is 2 - shared.
        result[block] += (1 - lambda_value) * (1 - shared / (2 - shared))
    return result


class NeighbourhoodFinder:
    """Each image's nearest and its farthest, out of the tiles of a table of distances.

    Args:
        images: N.
        count: K, how many of the nearest; re-ranking asks for k1 + 1 and for k2.
        rows: whose; all N unless given.
    """

    def __init__(self, images: int, count: int, rows: slice | None = None) -> None:
        rows = rows or slice(0, images)
        self._first, asking, self._count = rows.start, rows.stop - rows.start, min(count, images)
        self._distances = torch.full((asking, self._count), torch.inf, dtype=torch.float64)
        self._indices = torch.zeros(asking, self._count, dtype=torch.int64)
        self._farthest = torch.zeros(asking, dtype=torch.float64)

    def add(self, rows: slice, columns: slice, tile: Tensor) -> None:
        """The distances of some images to some others, in any order; together the tiles are the table of `rows` x N.

        A tile is written to: an image's distance to itself becomes 0, whatever the score of a crop against itself.
        """
        first = max(rows.start, columns.start)
        own = torch.arange(first, max(first, min(rows.stop, columns.stop)))
        tile[own - rows.start, own - columns.start] = 0
        if not tile.numel():
            return
        asking = slice(rows.start - self._first, rows.stop - self._first)
        self._farthest[asking] = torch.maximum(self._farthest[asking], tile.amax(dim=1))
        near = tile.topk(min(self._count, tile.shape[1]), dim=1, largest=False, sorted=False)
        candidates = torch.cat([self._distances[asking], near.values], dim=1)
        named = torch.cat([self._indices[asking], near.indices + columns.start], dim=1)
        self._distances[asking], kept = candidates.topk(self._count, dim=1, largest=False, sorted=False)
        self._indices[asking] = named.gather(1, kept)

    def found(self) -> Neighbourhoods:
        """Equal distances in the order of the images."""
        indices, distances = self._indices.numpy(), self._distances.numpy()
        order = np.lexsort((indices, distances), axis=1)
        return Neighbourhoods(
            np.take_along_axis(indices, order, axis=1),
            np.take_along_axis(distances, order, axis=1),
            self._farthest.numpy(),
        )


def _encode(found: Neighbourhoods, distances_of: Distances, k1: int) -> sparse.csr_array:
    """[N, N]: each image's k-reciprocal neighbours, expanded by theirs where they agree, weighted by exp(-distance)."""
    near, half = _reciprocal(found.indices, k1), _reciprocal(found.indices, round(k1 / 2))
    agreed = (near @ half.T).multiply(near).tocoo()  # [image, neighbour]: how many of near are in the other's half
    trusted = 3 * agreed.data > 2 * np.diff(half.indptr)[agreed.col]
    chosen = sparse.csr_array((agreed.data[trusted], (agreed.row[trusted], agreed.col[trusted])), shape=near.shape)
    expanded = (near + chosen @ half).tocsr()
    expanded.sort_indices()
    rows = np.repeat(np.arange(len(found.indices)), np.diff(expanded.indptr))
    distances = _distances(found, rows, expanded.indices, distances_of)
    weights = np.exp(-distances / _positive(found.farthest)[rows])
    total = np.bincount(rows, weights, minlength=len(found.indices))
    return sparse.csr_array((weights / total[rows], expanded.indices, expanded.indptr), shape=near.shape)


def _reciprocal(indices: NDArray[np.int64], k: int) -> sparse.csr_array:
    """[N, N], 1 where each of two images is among the other's k + 1 nearest (each is among its own)."""
    forward = _rows_of(indices[:, : k + 1], 1)
    return forward.multiply(forward.T).tocsr()


def _rows_of(indices: NDArray[np.int64], value: float) -> sparse.csr_array:
    """[N, N] that holds `value` at the columns that each row of `indices` names."""
    images, count = indices.shape
    starts = np.arange(images + 1) * count
    return sparse.csr_array((np.full(indices.size, value), indices.ravel(), starts), shape=(images, images))


def _distances(found: Neighbourhoods, rows: Indices, columns: Indices, distances_of: Distances) -> Floats:
    """Of pairs [n], sorted by row and column: from the neighbourhoods, or asked for."""
    images = len(found.indices)
    known = (np.arange(images)[:, None] * images + found.indices).ravel()
    order = np.argsort(known)
    wanted = rows * images + columns
    at = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    distances = found.distances.ravel()[at]
    unknown = known[at] != wanted
    distances[unknown] = distances_of(rows[unknown], columns[unknown])
    return distances


def _average(encoding: sparse.csr_array, nearest: NDArray[np.int64]) -> sparse.csr_array:
    """Each image's encoding as the mean over its k2 nearest (query expansion)."""
    return _rows_of(nearest, 1 / nearest.shape[1]) @ encoding


def _sums_of_minima(rows: sparse.csr_array, by_column: sparse.csc_array) -> NDArray[np.float64]:
    """[q, G]: sum over columns of min(rows[q], by_column[g]), from the columns in which both have a weight."""
    of_row = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    first = by_column.indptr[rows.indices]
    counts = by_column.indptr[rows.indices + 1] - first
    ends = counts.cumsum()
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
    minima = np.minimum(np.repeat(rows.data, counts), by_column.data[at])
    galleries = by_column.shape[0]
    cells = np.repeat(of_row * galleries, counts) + by_column.indices[at]
    sums = np.bincount(cells, minima, minlength=rows.shape[0] * galleries)
    return sums.reshape(-1, galleries).astype(np.float64, copy=False)


def _positive(values: Floats) -> Floats:
    return np.maximum(values, np.finfo(np.float64).tiny)
