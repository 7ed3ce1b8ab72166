"""Re-rank a gallery by k-reciprocal encoding (Zhong et al., CVPR 2017).

The formula reads each image's nearest, its farthest and some single pairs, so no table of all pairs is needed.
Q queries, G gallery images, N = Q + G images, queries first, K neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from qaconv.tables import ComputedTable, Rows, Table

ROUNDING = 1e-6  # by which a distance of 1 - cosine may be below 0
BLOCK_IMAGES = 1 << 14  # whose neighbourhoods are searched for pairs at a time
BLOCK_QUERIES = 64  # whose neighbourhoods are compared at a time: their sums stay in cache
BLOCK_ROWS, BLOCK_COLUMNS = 1024, 2048  # of distances that are searched for near ones at a time

Floats = NDArray[np.floating]
Indices = NDArray[np.integer]
Distances = Callable[[Indices, Indices], Floats]


@dataclass(frozen=True)
class Neighbourhoods:
    """The part of each image's distances to all N that re-ranking reads.

    Attributes:
        indices: nearest images, nearest first, the image itself among them, [N, K].
        distances: distances to them, [N, K].
        farthest: largest distance of each image, [N].
    """

    indices: Indices
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
    """Return re-ranked distances [Q, G]: a weighted mean of the original distance and of a Jaccard distance.

    The Jaccard distance is small where the two images have many neighbours in common (Zhong et al., CVPR 2017).

    This reads tables of all pairs; `k_reciprocal_sparse` does without them.

    Args:
        query_gallery: distances of queries to gallery images, 0 or more, [Q, G].
        query_query: distances among queries, [Q, Q].
        gallery_gallery: distances among gallery images, [G, G].
        k1: two images are neighbours if each is among the other's k1 nearest. Default: 20.
        k2: number of nearest images whose encodings are averaged. Default: 6.
        lambda_value: weight of the original distance, in [0, 1]. Default: 0.3.

    Raises:
        ValueError: the tables' shapes do not fit together, a distance is negative or not finite, or a parameter is not
            in its range.

    Example:
        >>> import numpy as np
        >>> from qaconv.matching.rerank import k_reciprocal
        >>> points = np.array([0.0, 0.1, 0.2, 5.0, 5.1])  # the first is the query
        >>> table = abs(points[:, None] - points)
        >>> k_reciprocal(table[:1, 1:], table[:1, :1], table[1:, 1:], k1=2, k2=1).round(2)
        array([[0.02, 0.03, 0.99, 1.  ]])
    """
    across, among_queries, among_gallery = map(np.asarray, (query_gallery, query_query, gallery_gallery))
    if across.ndim != 2 or not across.shape[1]:
        raise ValueError(f"query_gallery must have shape [Q, G] with at least one gallery image, got {across.shape}")
    for name, value in (("k1", k1), ("k2", k2)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {value!r}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value!r}")
    queries, galleries = across.shape
    for name, part, size in (("query_query", among_queries, queries), ("gallery_gallery", among_gallery, galleries)):
        if part.shape != (size, size):
            raise ValueError(f"{name} must have shape {(size, size)}, got {part.shape}")
    for name, part in (("query_gallery", across), ("query_query", among_queries), ("gallery_gallery", among_gallery)):
        if wrong := int((~(np.isfinite(part) & (part >= -ROUNDING))).sum()):
            raise ValueError(f"{name} must be finite distances from 0, got {wrong} of {part.size} that are not")
    table = np.block([[among_queries, across], [across.T, among_gallery]])
    finder = NeighbourhoodFinder(len(table), max(k1 + 1, k2))
    everything = slice(0, len(table))
    finder.add(everything, everything, table)
    reranked = k_reciprocal_sparse(
        across,
        finder.neighbourhoods(),
        lambda rows, columns: table[rows, columns],
        k1=k1,
        k2=k2,
        lambda_value=lambda_value,
    )
    return reranked[:]


def k_reciprocal_sparse(
    query_gallery: Table,
    near: Neighbourhoods,
    pair_distances: Distances,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> Table:
    """Return what `k_reciprocal` returns, row by row: memory grows with N x K but not with Q x G or N x N.

    Args:
        query_gallery: distances of queries to gallery images, [Q, G].
        near: at least k1 + 1 and k2 of each image's nearest.
        pair_distances: function of the indices [n] of either side of n pairs that returns their distances [n]. It is
            called for pairs of a neighbourhood that `near` does not hold.
        k1: as in `k_reciprocal`, like `k2` and `lambda_value`.
        k2: number of nearest images whose encodings are averaged.
        lambda_value: weight of the original distance.
    """
    queries, galleries = query_gallery.shape
    encoding = encode_neighbours(near, pair_distances, k1=k1, k2=k2)
    of_queries = encoding[:queries]
    by_column = encoding[queries:].tocsc()
    weights = (lambda_value / _positive(near.farthest[:queries, None])).astype(query_gallery.dtype)

    def rerank(rows: Rows) -> Floats:
        numbers = np.arange(queries)[rows]
        result: Floats = query_gallery[rows] * weights[numbers]
        for start in range(0, len(numbers), BLOCK_QUERIES):
            block = slice(start, start + BLOCK_QUERIES)
            result[block] += (1 - lambda_value) * jaccard_distances(of_queries[numbers[block]], by_column)
        return result

    return ComputedTable((queries, galleries), query_gallery.dtype, rerank)


def encode_neighbours(near: Neighbourhoods, pair_distances: Distances, *, k1: int, k2: int) -> sparse.csr_array:
    """Encode each image by its k-reciprocal neighbours, averaged over its k2 nearest; rows sum to 1, [N, N]."""
    encoding = _encode(near, pair_distances, k1)
    return _average(encoding, near.indices[:, :k2]) if k2 > 1 else encoding


def jaccard_distances(rows: sparse.csr_array, by_column: sparse.csc_array) -> NDArray[np.float64]:
    """Return the Jaccard distances of encodings [q, N] and [G, N], as [q, G]."""
    shared = _sums_of_minima(rows, by_column)
    distances: NDArray[np.float64] = 1 - shared / (2 - shared)  # rows sum to 1: the sum of maxima is 2 - shared
    return distances


class NeighbourhoodFinder:
    """Find each image's nearest and its farthest in the tiles of a table of distances.

    Of images at one distance the first ones are kept, so that the order of the tiles changes nothing.

    Args:
        images: N.
        count: K, the number of nearest; re-ranking reads k1 + 1 and k2.
        rows: images to find the nearest of. Default: all.
        dtype: type of the distances. Default: float64.
    """

    def __init__(self, images: int, count: int, rows: slice | None = None, dtype: Any = np.float64) -> None:
        rows = rows or slice(0, images)
        self._first = rows.start
        self._count = min(count, images)
        queries = rows.stop - rows.start
        self._distances = np.full((queries, self._count), np.inf, dtype)  # the largest of a row stands last
        self._indices = np.zeros((queries, self._count), dtype=np.int32)
        self._farthest = np.zeros(queries, dtype)

    def add(self, rows: slice, columns: slice, tile: Floats) -> None:
        """Add the distances of some images to some others; in any order, the tiles make up the table of `rows` x N.

        A tile is written to: an image's distance to itself becomes 0, as a crop's score with itself means nothing.
        """
        first = max(rows.start, columns.start)
        diagonal = np.arange(first, max(first, min(rows.stop, columns.stop)))
        tile[diagonal - rows.start, diagonal - columns.start] = 0
        if not tile.size:
            return
        for row in range(0, len(tile), BLOCK_ROWS):
            part = tile[row : row + BLOCK_ROWS]
            queries = slice(rows.start - self._first + row, rows.start - self._first + row + len(part))
            self._farthest[queries] = np.maximum(self._farthest[queries], part.max(axis=1))
            for start in range(0, tile.shape[1], BLOCK_COLUMNS):
                self._add_block(queries, columns.start + start, part[:, start : start + BLOCK_COLUMNS])

    def join(self, near: "Neighbourhoods") -> None:
        """Add what another finder has found for the same images in other tiles."""
        self._farthest = np.maximum(self._farthest, near.farthest)
        self._keep_nearest(slice(0, len(self._indices)), near.distances, near.indices)

    def _add_block(self, queries: slice, first: int, block: Floats) -> None:
        near = block <= self._distances[queries, -1:]
        counts = near.sum(axis=1)
        width = int(counts.max())
        if 2 * width > block.shape[1]:
            distances: Floats = block
            indices = np.broadcast_to(np.arange(first, first + block.shape[1], dtype=np.int32), block.shape)
        else:  # few are nearer than the nearest so far: they move to the left, and the rest is not sorted
            rows, columns = np.nonzero(near)
            positions = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
            distances = np.full((len(block), width), np.inf, self._distances.dtype)
            distances[rows, positions] = block[rows, columns]
            indices = np.zeros((len(block), width), dtype=np.int32)
            indices[rows, positions] = first + columns
        self._keep_nearest(queries, distances, indices)

    def _keep_nearest(self, queries: slice, distances: Floats, indices: Indices) -> None:
        distances = np.concatenate([self._distances[queries], distances], axis=1)
        indices = np.concatenate([self._indices[queries], indices], axis=1)
        nearest = np.argpartition(distances, self._count - 1, axis=1)[:, : self._count]
        last = np.take_along_axis(distances, nearest[:, -1:], axis=1)
        tied = np.flatnonzero(((distances <= last).sum(axis=1) > self._count) & (last[:, 0] < np.inf))
        if len(tied):
            nearest[tied] = np.lexsort((indices[tied], distances[tied]), axis=1)[:, : self._count]
        self._distances[queries] = np.take_along_axis(distances, nearest, axis=1)
        self._indices[queries] = np.take_along_axis(indices, nearest, axis=1)

    def neighbourhoods(self) -> Neighbourhoods:
        """Return what the tiles hold, equal distances in the order of the images."""
        order = np.lexsort((self._indices, self._distances), axis=1)
        return Neighbourhoods(
            np.take_along_axis(self._indices, order, axis=1),
            np.take_along_axis(self._distances, order, axis=1),
            self._farthest,
        )


def _encode(near: Neighbourhoods, pair_distances: Distances, k1: int) -> sparse.csr_array:
    """Encode each image's k-reciprocal neighbours, [N, N]."""
    expanded = expand_reciprocal(lambda count: _rows_of(near.indices[:, :count], 1), k1)
    expanded.sort_indices()
    rows = np.repeat(np.arange(len(near.indices)), np.diff(expanded.indptr))
    distances = _distances(near, rows, expanded.indices, pair_distances)
    weights = np.exp(-distances / _positive(near.farthest)[rows])
    total = np.bincount(rows, weights, minlength=len(near.indices))
    return sparse.csr_array((weights / total[rows], expanded.indices, expanded.indptr), shape=expanded.shape)


def expand_reciprocal(nearest: Callable[[int], sparse.csr_array], k1: int) -> sparse.csr_array:
    """Return the k-reciprocal neighbours of each image, expanded by those of neighbours that agree, [N, N].

    Only which numbers are not 0 has a meaning.

    Args:
        nearest: function of a count that returns [N, N] with 1 at that many nearest of each image, itself among them.
        k1: as in `k_reciprocal`.
    """

    def reciprocal(count: int) -> sparse.csr_array:
        forward = nearest(count + 1)
        return forward.multiply(forward.T).tocsr()

    mutual, half = reciprocal(k1), reciprocal(round(k1 / 2))
    shared = (mutual @ half.T).multiply(mutual).tocoo()  # [image, neighbour]: mutual ones in the neighbour's half
    trusted = 3 * shared.data > 2 * np.diff(half.indptr)[shared.col]
    cells = (shared.row[trusted], shared.col[trusted])
    chosen = sparse.csr_array((shared.data[trusted], cells), shape=mutual.shape)
    return (mutual + chosen @ half).tocsr()


def _rows_of(indices: NDArray[np.integer], value: float) -> sparse.csr_array:
    """Return [N, N] that holds `value` at the columns that each row of `indices` names."""
    images, count = indices.shape
    starts = np.arange(images + 1) * count
    return sparse.csr_array((np.full(indices.size, value), indices.ravel(), starts), shape=(images, images))


def _distances(near: Neighbourhoods, rows: Indices, columns: Indices, pair_distances: Distances) -> Floats:
    """Return the distances [n] of pairs sorted by row and column: from the neighbourhoods, else from the function."""
    images = len(near.indices)
    distances = np.empty(len(rows), near.distances.dtype)
    unknown = np.empty(len(rows), dtype=bool)
    for start in range(0, images, BLOCK_IMAGES):
        numbers = np.arange(start, min(start + BLOCK_IMAGES, images))
        pairs = slice(*np.searchsorted(rows, (start, start + BLOCK_IMAGES)))
        known = (numbers[:, None] * images + near.indices[numbers]).ravel()
        order = np.argsort(known)
        wanted = rows[pairs].astype(np.int64) * images + columns[pairs]
        positions = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
        distances[pairs] = near.distances[numbers].ravel()[positions]
        unknown[pairs] = known[positions] != wanted
    distances[unknown] = pair_distances(rows[unknown], columns[unknown])
    return distances


def _average(encoding: sparse.csr_array, nearest: NDArray[np.integer]) -> sparse.csr_array:
    """Average each image's encoding over its k2 nearest (query expansion)."""
    return _rows_of(nearest, 1 / nearest.shape[1]) @ encoding


def _sums_of_minima(rows: sparse.csr_array, by_column: sparse.csc_array) -> NDArray[np.float64]:
    """Return [q, G]: sum over columns of min(rows[q], by_column[g]), from the columns in which both have a weight."""
    row_numbers = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    first = by_column.indptr[rows.indices]
    counts = by_column.indptr[rows.indices + 1] - first
    ends = counts.cumsum()
    positions = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
    minima = np.minimum(np.repeat(rows.data, counts), by_column.data[positions])
    galleries = by_column.shape[0]
    cells = np.repeat(row_numbers * galleries, counts) + by_column.indices[positions]
    sums = np.bincount(cells, minima, minlength=rows.shape[0] * galleries)
    return sums.reshape(-1, galleries).astype(np.float64, copy=False)


def _positive(values: Floats) -> Floats:
    return np.maximum(values, np.finfo(np.float64).tiny)
