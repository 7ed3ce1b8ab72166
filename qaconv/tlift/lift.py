"""Temporal lifting (Liao and Shao, ECCV 2020): scores and times go in; lifted scores come out.

Whoever passes one camera together passes the next one together too: the best matches of a query's companions say
when to look for the query itself. Q queries, G gallery images, K pivots; q and g of them on one pair of cameras.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REACH = 4.3  # sigmas from a pivot beyond which it weighs nothing: exp(-18.5) = 1e-8
UNDERFLOW = 700.0  # exp(-700) is 1e-304; where it gives 0, exp takes ten times as long
GROUP = 16  # columns that are looked through together for a row's best
ROWS = 64  # whose columns a thread puts into another order at a time
ENTRIES = 1 << 19  # weights at a time: 4 MB


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
    pivot_counts: Literal["each", "once"] = "each",
) -> Floats:
    """Lifted scores [Q, G]: (weight + alpha) * score, the weight in [0, 1] from each gallery camera's pivots.

    Times are compared within one camera only, so a constant offset of a camera's clock changes nothing.

    Args:
        scores: [Q, G] in [0, 1], with a mean of about 0.01 to 0.1.
        query_camids: [Q]; a camera that the gallery lacks is fine.
        query_times: [Q], seconds.
        gallery_camids: [G].
        gallery_times: [G], seconds.
        tau: queries on one camera less than this many seconds apart are neighbours.
        sigma: seconds; a gallery image this far from a pivot is given weight 1/e by it.
        top_k: K; images whose score ties with the K-th are pivots too.
        alpha: what appearance counts where time gives no support.
        pivot_counts: a gallery image that several neighbours name is a pivot for "each" of them, as in the authors'
            Python code, which their figures come from, or "once", as in their Octave code.

    Raises:
        ValueError: shapes do not fit, or a score or time is not a number.
    """
    score_table = np.asarray(scores)
    query_camids, query_times = np.asarray(query_camids), np.asarray(query_times, dtype=np.float64)
    gallery_camids, gallery_times = np.asarray(gallery_camids), np.asarray(gallery_times, dtype=np.float64)
    check_tables(score_table, query_camids, query_times, gallery_camids, gallery_times)

    lifted = np.empty(score_table.shape)
    if not lifted.size:
        return lifted

    # While it is worked on, the table's columns lie by camera and time: a camera is a slice, and so is what is near.
    seen = [np.flatnonzero(gallery_camids == camid) for camid in np.unique(gallery_camids)]
    order = np.concatenate([columns[np.argsort(gallery_times[columns])] for columns in seen])
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

    cameras = [slice(*ends) for ends in pairwise(np.cumsum([0, *map(len, seen)]))]
    parts = [range(start, min(start + ROWS, len(lifted))) for start in range(0, len(lifted), ROWS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = pool.map if len(parts) > 1 else map  # of a single query's time threads would be half
        list(each(gather, parts))
        list(each(lift_on, cameras))
        list(each(put_back, parts))
    return lifted


def find_neighbours(camids: NDArray, times: Floats, *, tau: float, with_itself: bool = True) -> tuple[Ints, Ints]:
    """Pairs of queries on one camera less than tau apart, as two [n]: a query, and who is near it; sorted by query.

    Args:
        camids: [Q].
        times: [Q], seconds.
        tau: as in `temporal_lift`.
        with_itself: False leaves a query out of its own neighbours, and shows what its companions alone know.
    """
    pairs = []
    for camid in np.unique(camids):
        on = np.flatnonzero(camids == camid)
        on = on[np.argsort(times[on])]
        ordered = times[on]
        first, last = np.searchsorted(ordered, ordered - tau, side="right"), np.searchsorted(ordered, ordered + tau)
        pairs.append(np.stack([np.repeat(on, last - first), on[_ranges(first, last - first)]]))
    asked, near = np.concatenate(pairs, axis=1)
    order = np.argsort(asked, kind="stable")
    if not with_itself:
        order = order[asked[order] != near[order]]
    return asked[order], near[order]


def find_pivots(
    scores: Floats,
    neighbours: tuple[Ints, Ints],
    *,
    top_k: int,
    pivot_counts: Literal["each", "once"] = "each",
) -> sparse.coo_array:
    """A one for each neighbour of a query, and each gallery image that it names as a pivot, [Q, g], on one camera.

    Args:
        scores: [Q, g].
        neighbours: as `find_neighbours` gives them.
        top_k: K, as in `temporal_lift`.
        pivot_counts: the same; "once" leaves one of those that name the same image.
    """
    queries, galleries = scores.shape
    row, column, value = _best(scores, min(top_k, galleries))
    first = np.searchsorted(row, np.arange(queries + 1))
    asked, named_by = neighbours
    # Each query's candidates: the best of all its neighbours, one after another.
    lengths = np.diff(first)[named_by]
    candidate = _ranges(first[named_by], lengths)
    query = np.repeat(asked, lengths)
    keep = value[candidate] >= _kth_best(query, value[candidate], queries, top_k)[query]
    query, pivot = query[keep], column[candidate[keep]]
    if pivot_counts == "once":
        query, pivot = np.divmod(np.unique(query * galleries + pivot), galleries)
    return sparse.coo_array((np.ones(len(query)), (query, pivot)), shape=scores.shape)


def time_weights(pivots: sparse.coo_array, gallery_times: Floats, sigma: float) -> Floats:
    """Mean over each query's pivots of exp(-(difference in time / sigma)^2): [Q, g]; 0 for a query without any."""
    order = np.argsort(gallery_times)
    back, (query, column) = np.argsort(order), pivots.coords
    by_time = sparse.coo_array((pivots.data, (query, back[column])), shape=pivots.shape)
    return np.hstack([weights for _, weights in _weights(by_time, gallery_times[order], sigma)]).take(back, axis=1)


def check_tables(
    scores: NDArray, query_camids: NDArray, query_times: NDArray, gallery_camids: NDArray, gallery_times: NDArray
) -> None:
    """Refuses shapes that do not fit and what is not a number.

    Raises:
        ValueError: names the shape or the table.
    """
    queries, galleries = len(query_camids), len(gallery_camids)
    if scores.shape != (queries, galleries) or len(query_times) != queries or len(gallery_times) != galleries:
        raise ValueError(
            f"scores have shape {scores.shape}, for {queries} query camids, {len(query_times)} query times, "
            f"{galleries} gallery camids and {len(gallery_times)} gallery times"
        )
    for name, values in (("scores", scores), ("query_times", query_times), ("gallery_times", gallery_times)):
        if not np.isfinite(values.sum()):
            raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} are not finite numbers")


def _weights(pivots: sparse.coo_array, times: Floats, sigma: float) -> Iterator[tuple[slice, Floats]]:
    """`time_weights` of some columns after others, for times that ascend: only pivots that are near are summed."""
    query, column = pivots.coords
    queries, galleries = pivots.shape
    used, place = np.unique(column, return_inverse=True)
    share = 1 / np.bincount(query, minlength=queries)[query]
    shares = sparse.csc_array((share, (query, place)), shape=(queries, len(used)))
    times = times / sigma
    around, width = times[used], max(1, ENTRIES // queries)
    for start in range(0, galleries, width):
        columns = slice(start, min(start + width, galleries))
        first, last = np.searchsorted(around, (times[start] - REACH, times[columns.stop - 1] + REACH))
        exponent = np.square(around[first:last, None] - times[columns])
        np.minimum(exponent, UNDERFLOW, out=exponent)
        yield columns, shares[:, first:last] @ np.exp(-exponent)


def _best(scores: Floats, top_k: int) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of each row's `top_k` best and of whatever ties with the last of them, row by row.

    The K-th best of the maxima of groups of columns is no better than the K-th best of all, so that nearly
    everything is passed over at first sight.
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


def _ranges(first: Ints, lengths: Ints) -> Ints:
    """first[0], first[0] + 1, ... of the first length, then first[1], and so on."""
    return np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)


def _kth_best(query: Ints, value: Floats, queries: int, top_k: int) -> Floats:
    """[q]: the K-th best of each query's candidates, or the worst where there are fewer; `query` is sorted."""
    rank = np.argsort(np.argsort(-value))
    order = np.argsort(query * len(value) + rank)  # three sorts by one key take a third of lexsort's time
    ranked = np.append(value[order], np.inf)  # what a query without candidates reads
    first = np.searchsorted(query, np.arange(queries + 1))
    return ranked[np.minimum(first[:-1] + top_k, first[1:]) - 1]
