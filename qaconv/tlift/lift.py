"""Temporal lifting (Liao and Shao, ECCV 2020): scores and times go in; lifted scores come out.

Whoever passes one camera together passes the next one together too: the best matches of a query's companions say
when to look for the query itself. Q queries, G gallery images, K pivots; q and g of them on one pair of cameras.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REACH = 4.3  # sigmas from a pivot beyond which it weighs nothing: exp(-18.5) = 1e-8
GROUP = 16  # columns that are looked through together for a row's best


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
    score_table = np.asarray(scores, dtype=np.float64)
    query_camids, query_times = np.asarray(query_camids), np.asarray(query_times, dtype=np.float64)
    gallery_camids, gallery_times = np.asarray(gallery_camids), np.asarray(gallery_times, dtype=np.float64)
    check_tables(score_table, query_camids, query_times, gallery_camids, gallery_times)

    lifted = np.empty_like(score_table)
    queries_on = [np.flatnonzero(query_camids == camid) for camid in np.unique(query_camids)]

    def lift_on(gallery_camid: object) -> None:
        seen = np.flatnonzero(gallery_camids == gallery_camid)
        for asked in queries_on:
            table = score_table[asked[:, None], seen]
            pivots = find_pivots(table, query_times[asked], tau=tau, top_k=top_k, pivot_counts=pivot_counts)
            weights = time_weights(pivots, gallery_times[seen], sigma)
            weights += alpha
            table *= weights
            lifted[asked[:, None], seen] = table

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lift_on, np.unique(gallery_camids)))
    return lifted


def find_pivots(
    scores: Floats,
    query_times: Floats,
    *,
    tau: float,
    top_k: int,
    pivot_counts: Literal["each", "once"] = "each",
    with_itself: bool = True,
) -> sparse.csr_array:
    """How many neighbours of each query name each gallery image as a pivot, [q, g], on one pair of cameras.

    Args:
        scores: [q, g].
        query_times: [q], seconds.
        tau: as in `temporal_lift`, and so the others.
        top_k: K.
        pivot_counts: each or once.
        with_itself: False leaves a query's own scores out, and shows what its companions alone know.
    """
    queries, galleries = scores.shape
    row, column, value = _best(scores, min(top_k, galleries))
    first = np.searchsorted(row, np.arange(queries + 1))
    asked, named_by = _neighbours(query_times, tau)
    if not with_itself:
        asked, named_by = asked[asked != named_by], named_by[asked != named_by]
    # Each query's candidates: the best of all its neighbours, one after another.
    lengths = np.diff(first)[named_by]
    candidate = _ranges(first[named_by], lengths)
    query = np.repeat(asked, lengths)
    keep = value[candidate] >= _kth_best(query, value[candidate], queries, top_k)[query]
    query, pivot = query[keep], column[candidate[keep]]
    counts = sparse.csr_array((np.ones(len(query)), (query, pivot)), shape=scores.shape)  # sums what is named twice
    if pivot_counts == "once":
        counts.data[:] = 1
    return counts


def time_weights(pivots: sparse.csr_array, gallery_times: Floats, sigma: float) -> Floats:
    """Mean over each query's pivots of exp(-(difference in time / sigma)^2): [q, g]; 0 for a query without any."""
    order = np.argsort(gallery_times)
    times = gallery_times[order]
    used, column = np.unique(pivots.indices, return_inverse=True)
    around = gallery_times[used]
    first = np.searchsorted(times, around - REACH * sigma)
    lengths = np.searchsorted(times, around + REACH * sigma, side="right") - first
    near = _ranges(first, lengths)
    closeness = np.exp(-(((np.repeat(around, lengths) - times[near]) / sigma) ** 2))
    shape = (len(used), len(times))
    banded = sparse.csr_array((closeness, order[near], np.append(0, np.cumsum(lengths))), shape=shape)
    counts = np.maximum(pivots.sum(axis=1), 1)
    shares = pivots.data / np.repeat(counts, np.diff(pivots.indptr))
    return (sparse.csr_array((shares, column, pivots.indptr), shape=(pivots.shape[0], len(used))) @ banded).toarray()


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
    row, column = np.nonzero(scores >= bound[:, None])
    value = scores[row, column]
    kept = value >= _kth_best(row, value, rows, top_k)[row]
    return row[kept], column[kept], value[kept]


def _neighbours(times: Floats, tau: float) -> tuple[Ints, Ints]:
    """Pairs of queries less than tau apart, each query with itself among them; sorted by the first."""
    order = np.argsort(times)
    ordered = times[order]
    first, last = np.searchsorted(ordered, times - tau, side="right"), np.searchsorted(ordered, times + tau)
    return np.repeat(np.arange(len(times)), last - first), order[_ranges(first, last - first)]


def _ranges(first: Ints, lengths: Ints) -> Ints:
    """first[0], first[0] + 1, ... of the first length, then first[1], and so on."""
    return np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)


def _kth_best(query: Ints, value: Floats, queries: int, top_k: int) -> Floats:
    """[q]: the K-th best of each query's candidates, or the worst where there are fewer; `query` is sorted."""
    ranked = np.append(value[np.lexsort((-value, query))], np.inf)  # what a query without candidates reads
    first = np.searchsorted(query, np.arange(queries + 1))
    return ranked[np.minimum(first[:-1] + top_k, first[1:]) - 1]
