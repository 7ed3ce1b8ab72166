"""Lift scores by time: temporal lifting (TLift; Liao and Shao, ECCV 2020).

People who pass one camera together also pass the next one together: the best matches of a query's companions show when
to look for the query itself. Q queries, G gallery images, K pivots; q and g of them on one pair of cameras.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from qaconv.times import check_seconds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PivotCounts = Literal["each", "once"]

REACH = 4.3  # sigmas from a pivot beyond which its weight counts as 0: exp(-18.5) = 1e-8
UNDERFLOW = 700.0  # largest exponent: exp(-700) is 1e-304; where exp gives 0 it takes ten times as long
GROUP = 16  # columns in a group whose maximum is compared first
ROWS = 64  # whose columns a thread reorders at a time
ENTRIES = 1 << 19  # weights computed at a time: 4 MB


def temporal_lift(
    scores: ArrayLike,
    query_camids: ArrayLike,
    query_times: ArrayLike,
    gallery_camids: ArrayLike,
    gallery_times: ArrayLike,
    *,
    tau: float = 100,
    sigma: float = 200,
    top_k: int = 10,
    alpha: float = 0.2,
    pivot_counts: PivotCounts = "each",
) -> Floats:
    """Lift scores by TLift (Liao and Shao, ECCV 2020): (weight + alpha) * score, [Q, G].

    The pivots of a query are the best `top_k` images of a gallery camera for the query and its neighbours in time. An
    image near its camera's pivots in time gets a weight near 1, others get one near 0. Times are compared within one
    camera only, so a constant offset of a camera's clock changes nothing.

    Args:
        scores: [Q, G] in [0, 1], with a mean of about 0.01 to 0.1, which the default of `alpha` is for.
        query_camids: [Q]; cameras without gallery images are allowed.
        query_times: [Q] seconds.
        gallery_camids: [G].
        gallery_times: [G] seconds.
        tau: queries on one camera less than this many seconds apart are neighbours. Default: 100.
        sigma: seconds at which a gallery image gets the weight 1/e from a pivot. Default: 200.
        top_k: K; images whose score equals the K-th best are pivots too. Default: 10.
        alpha: factor of a score that times do not support. Default: 0.2.
        pivot_counts: whether an image that is a pivot of several neighbours counts for "each" of them, as in the
            authors' Python code that their figures come from, or "once", as in their Octave code. Default: "each".

    Raises:
        ValueError: shapes do not fit, a score or time is not a finite number, a camera is NaN, or a parameter is out of
            range.
        InputError: a time cannot be seconds.

    Example:
        >>> temporal_lift([[0.5, 0.5]], [0], [10], [1, 1], [20, 220], top_k=1).round(3)
        array([[0.442, 0.442]])
        >>> temporal_lift([[0.9, 0.1]], [0], [10], [1, 1], [20, 220], top_k=1).round(3)
        array([[1.08 , 0.057]])
    """
    score_table = np.asarray(scores)
    query_camids, query_times = np.asarray(query_camids), np.asarray(query_times, dtype=np.float64)
    gallery_camids, gallery_times = np.asarray(gallery_camids), np.asarray(gallery_times, dtype=np.float64)
    check_tables(score_table, query_camids, query_times, gallery_camids, gallery_times)
    for name, camids in (("query_camids", query_camids), ("gallery_camids", gallery_camids)):
        if unknown := int(np.count_nonzero(camids != camids)):
            raise ValueError(f"{name} must be known, got {unknown} of {len(camids)} that are NaN")
    check_parameters(tau=tau, sigma=sigma, top_k=top_k, alpha=alpha)
    if pivot_counts not in get_args(PivotCounts):
        raise ValueError(f"unknown pivot_counts {pivot_counts!r}, allowed: {', '.join(get_args(PivotCounts))}")

    lifted = np.empty(score_table.shape)
    if not lifted.size:
        return lifted

    # Meanwhile the columns are sorted by camera and time: a camera is a slice, and so are images close in time.
    columns_by_camera = [np.flatnonzero(gallery_camids == camid) for camid in np.unique(gallery_camids)]
    order = np.concatenate([columns[np.argsort(gallery_times[columns])] for columns in columns_by_camera])
    back, times = np.empty_like(order), gallery_times[order]
    back[order] = np.arange(len(order))
    neighbours = find_neighbours(query_camids, query_times, tau=tau)

    def gather(rows: range) -> None:
        for row in rows:
            np.asarray(score_table[row], dtype=np.float64).take(order, out=lifted[row], mode="clip")

    def lift_on(camera: slice) -> None:
        table = lifted[:, camera]
        pivots = find_pivots(table, neighbours, top_k=top_k, pivot_counts=pivot_counts)
        for columns, weights in _weights(pivots, times[camera], sigma):
            weights += alpha
            table[:, columns] *= weights

    def put_back(rows: range) -> None:
        for row in rows:
            lifted[row] = lifted[row].take(back)

    cameras = [slice(*ends) for ends in pairwise(np.cumsum([0, *map(len, columns_by_camera)]))]
    parts = [range(start, min(start + ROWS, len(lifted))) for start in range(0, len(lifted), ROWS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        run: Any = pool.map if len(parts) > 1 else map  # threads would take half the time of a single query
        list(run(gather, parts))
        list(run(lift_on, cameras))
        list(run(put_back, parts))
    return lifted


def find_neighbours(camids: NDArray[Any], times: Floats, *, tau: float, with_itself: bool = True) -> tuple[Ints, Ints]:
    """Return the pairs of queries on one camera less than tau apart: query and neighbour, [n] each, sorted by query.

    Args:
        camids: [Q].
        times: [Q] seconds.
        tau: as in `temporal_lift`.
        with_itself: whether a query is its own neighbour. Default: True.
    """
    pairs = []
    for camid in np.unique(camids):
        rows = np.flatnonzero(camids == camid)
        rows = rows[np.argsort(times[rows])]
        ordered = times[rows]
        first, last = np.searchsorted(ordered, ordered - tau, side="right"), np.searchsorted(ordered, ordered + tau)
        pairs.append(np.stack([np.repeat(rows, last - first), rows[ranges(first, last - first)]]))
    query, neighbour = np.concatenate(pairs, axis=1)
    order = np.argsort(query, kind="stable")
    if not with_itself:
        order = order[query[order] != neighbour[order]]
    return query[order], neighbour[order]


class BestImages(NamedTuple):
    """The best images on one camera for each of some queries, query after query.

    Attributes:
        first: where each query's images begin, and where the last one's end, [q + 1].
        column: number of each image on the camera.
        value: its score.
    """

    first: Ints
    column: Ints
    value: Floats


def best_images(scores: Floats, top_k: int) -> BestImages:
    """Return each query's `top_k` best images, and those that are as good as the last of them.

    Args:
        scores: with the images of one camera, [q, g].
        top_k: as in `temporal_lift`.
    """
    row, column, value = _best(scores, min(top_k, scores.shape[1]))
    return BestImages(np.searchsorted(row, np.arange(len(scores) + 1)), column, value)


def join_best(parts: Sequence[BestImages]) -> BestImages:
    """Join the best images of some queries to those of the next ones."""
    counts = [np.diff(part.first) for part in parts]
    return BestImages(
        np.concatenate([[0], *counts]).cumsum(),
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.value for part in parts]),
    )


def find_pivots(
    scores: Floats,
    neighbours: tuple[Ints, Ints],
    *,
    top_k: int,
    pivot_counts: PivotCounts = "each",
) -> sparse.coo_array:
    """Return the pivots on one camera as a sparse table [Q, g] with a 1 for each neighbour and pivot.

    Args:
        scores: [Q, g].
        neighbours: from `find_neighbours`.
        top_k: as in `temporal_lift`.
        pivot_counts: as in `temporal_lift`.
    """
    best = best_images(scores, top_k)
    return choose_pivots(best, neighbours, scores.shape, top_k=top_k, pivot_counts=pivot_counts)


def choose_pivots(
    best: BestImages,
    neighbours: tuple[Ints, Ints],
    shape: tuple[int, int],
    *,
    top_k: int,
    pivot_counts: PivotCounts = "each",
) -> sparse.coo_array:
    """Return the pivots on one camera of some queries, as `find_pivots` does of all.

    Args:
        best: of all queries that are neighbours of these.
        neighbours: number of a query among these, ascending, and of a neighbour among those of `best`, [n] each.
        shape: number of these queries, and of the camera's images.
        top_k: as in `temporal_lift`.
        pivot_counts: as in `temporal_lift`.
    """
    queries, galleries = shape
    query_of_pair, neighbour = neighbours
    # The candidates of each query are the best of all its neighbours, one after another.
    lengths = np.diff(best.first)[neighbour]
    candidate = ranges(best.first[neighbour], lengths)
    query = np.repeat(query_of_pair, lengths)
    keep = best.value[candidate] >= _kth_best(query, best.value[candidate], queries, top_k)[query]
    query, pivot = query[keep], best.column[candidate[keep]]
    if pivot_counts == "once":
        query, pivot = np.divmod(np.unique(query * galleries + pivot), galleries)
    return sparse.coo_array((np.ones(len(query)), (query, pivot)), shape=shape)


def time_weights(pivots: sparse.coo_array, gallery_times: Floats, sigma: float, queries: int | None = None) -> Floats:
    """Return the mean over each query's pivots of exp(-(time difference / sigma)^2), [q, g]; 0 without pivots.

    Args:
        pivots: of some queries, [q, g].
        gallery_times: [g] seconds.
        sigma: as in `temporal_lift`.
        queries: number of all queries on the camera, on which the order of sums depends. Default: q.
    """
    order = np.argsort(gallery_times)
    back = np.argsort(order)
    query, column = pivots.coords
    by_time = sparse.coo_array((pivots.data, (query, back[column])), shape=pivots.shape)
    blocks = _weights(by_time, gallery_times[order], sigma, queries)
    return np.hstack([weights for _, weights in blocks]).take(back, axis=1)


def check_tables(
    scores: NDArray[Any],
    query_camids: NDArray[Any],
    query_times: NDArray[Any],
    gallery_camids: NDArray[Any],
    gallery_times: NDArray[Any],
) -> None:
    """Check shapes and numbers.

    Raises:
        ValueError: shapes do not fit, or a score or time is not a finite number.
        InputError: a time cannot be seconds.
    """
    check_finite("scores", scores)
    check_places(scores.shape, query_camids, query_times, gallery_camids, gallery_times)


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Check that all numbers are finite.

    Raises:
        ValueError: some are not.
    """
    if not np.isfinite(values.sum()):
        wrong = int((~np.isfinite(values)).sum())
        raise ValueError(f"{name} must be finite numbers, got {wrong} of {values.size} that are not")


def check_places(
    shape: tuple[int, ...],
    query_camids: NDArray[Any],
    query_times: NDArray[Any],
    gallery_camids: NDArray[Any],
    gallery_times: NDArray[Any],
) -> None:
    """Check shapes and times.

    Args:
        shape: of the table of scores.
        query_camids: [Q].
        query_times: [Q] seconds.
        gallery_camids: [G].
        gallery_times: [G] seconds.

    Raises:
        ValueError: shapes do not fit, or a time is not a finite number.
        InputError: a time cannot be seconds.
    """
    queries, galleries = len(query_camids), len(gallery_camids)
    if shape != (queries, galleries) or len(query_times) != queries or len(gallery_times) != galleries:
        raise ValueError(
            f"scores must have shape {(queries, galleries)}, for {queries} query camids and {galleries} gallery "
            f"camids, got scores of shape {shape}, {len(query_times)} query times and "
            f"{len(gallery_times)} gallery times"
        )
    for name, times in (("query_times", query_times), ("gallery_times", gallery_times)):
        check_finite(name, times)
        check_seconds(name, times)


def check_parameters(*, tau: float, sigma: float, top_k: int, alpha: float) -> None:
    """Check the parameters of `temporal_lift`.

    Raises:
        ValueError: one is out of range.
    """
    if not isinstance(top_k, (int, np.integer)) or top_k < 1:
        raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
    for name, seconds in (("tau", tau), ("sigma", sigma)):
        if not seconds > 0:
            raise ValueError(f"{name} must be above 0 seconds, got {seconds!r}")
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must be at least 0 and finite, got {alpha!r}")


def _weights(
    pivots: sparse.coo_array, times: Floats, sigma: float, all_queries: int | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Yield `time_weights` of blocks of columns, for ascending times: only pivots close in time are summed."""
    query, column = pivots.coords
    queries, galleries = pivots.shape
    used, position = np.unique(column, return_inverse=True)
    share = 1 / np.bincount(query, minlength=queries)[query]
    shares = sparse.csc_array((share, (query, position)), shape=(queries, len(used)))
    times = times / sigma
    pivot_times, width = times[used], max(1, ENTRIES // (all_queries or queries))
    for start in range(0, galleries, width):
        columns = slice(start, min(start + width, galleries))
        first, last = np.searchsorted(pivot_times, (times[start] - REACH, times[columns.stop - 1] + REACH))
        exponent = np.square(pivot_times[first:last, None] - times[columns])
        np.minimum(exponent, UNDERFLOW, out=exponent)
        yield columns, shares[:, first:last] @ np.exp(-exponent)


def _best(scores: Floats, top_k: int) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of each row's `top_k` best scores, and of those equal to the last of them, row by row.

    The K-th best of the maxima of groups of columns is no better than the K-th best of all scores, so comparing with
    it rejects nearly all scores at once.
    """
    rows, columns = scores.shape
    groups = max(columns // GROUP, top_k)
    whole = scores[:, : columns // groups * groups]
    maxima = whole.reshape(rows, -1, groups).max(axis=1)
    bound = np.partition(maxima, groups - top_k, axis=1)[:, groups - top_k]
    row, column = np.divmod(np.flatnonzero(scores >= bound[:, None]), columns)
    value = scores[row, column]
    kept = value >= _kth_best(row, value, rows, top_k)[row]
    return row[kept], column[kept], value[kept]


def ranges(first: Ints, lengths: Ints) -> Ints:
    """Concatenate the ranges that start at `first` and have `lengths`."""
    ranges: Ints = np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)
    return ranges


def _kth_best(query: Ints, value: Floats, queries: int, top_k: int) -> Floats:
    """K-th best of each query's candidates, or the worst where there are fewer, [q]; `query` is sorted."""
    rank = np.argsort(np.argsort(-value))
    order = np.argsort(query * len(value) + rank)  # three sorts by one key take a third of lexsort's time
    ranked = np.append(value[order], np.inf)  # infinite for a query without candidates
    first = np.searchsorted(query, np.arange(queries + 1))
    kth: Floats = ranked[np.minimum(first[:-1] + top_k, first[1:]) - 1]
    return kth
