"""Temporal lifting (Liao and Shao, ECCV 2020): scores and times go in; lifted scores come out.

Whoever passes one camera together passes the next one together too: the best matches of a query's companions say
when to look for the query itself. Q queries, G gallery images, K pivots; q and g of them on one pair of cameras.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK = 512  # queries whose neighbours are compared at a time, so that memory does not grow with q x q


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
    for gallery_camid in np.unique(gallery_camids):
        seen = np.flatnonzero(gallery_camids == gallery_camid)
        pivots = sparse.vstack(
            [
                find_pivots(
                    score_table[np.ix_(asked, seen)],
                    query_times[asked],
                    tau=tau,
                    top_k=top_k,
                    pivot_counts=pivot_counts,
                )
                for asked in queries_on
            ],
            format="csr",
        )
        pairs = np.ix_(np.concatenate(queries_on), seen)
        lifted[pairs] = (time_weights(pivots, gallery_times[seen], sigma) + alpha) * score_table[pairs]
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
    candidate = np.repeat(first[named_by] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    query = np.repeat(asked, lengths)
    keep = value[candidate] >= _kth_best(query, value[candidate], queries, top_k)[query]
    query, pivot = query[keep], column[candidate[keep]]
    counts = sparse.csr_array((np.ones(len(query)), (query, pivot)), shape=scores.shape)  # sums what is named twice
    if pivot_counts == "once":
        counts.data[:] = 1
    return counts


def time_weights(pivots: sparse.csr_array, gallery_times: Floats, sigma: float) -> Floats:
    """Mean over each query's pivots of exp(-(difference in time / sigma)^2): [q, g]; 0 for a query without any."""
    used, column = np.unique(pivots.indices, return_inverse=True)
    closeness = np.exp(-(((gallery_times[used, None] - gallery_times) / sigma) ** 2))
    named = sparse.csr_array((pivots.data, column, pivots.indptr), shape=(pivots.shape[0], len(used)))
    return (named @ closeness) / np.maximum(named.sum(axis=1), 1)[:, None]


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
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} are not finite numbers")


def _best(scores: Floats, top_k: int) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of each row's `top_k` best and of whatever ties with the last of them, row by row."""
    place = scores.shape[1] - top_k
    last = np.partition(scores, place, axis=1)[:, place : place + 1]
    row, column = np.nonzero(scores >= last)
    return row, column, scores[row, column]


def _neighbours(times: Floats, tau: float) -> tuple[Ints, Ints]:
    """Pairs of queries less than tau apart, each query with itself among them; sorted by the first."""
    starts = range(0, len(times), BLOCK)
    found = [np.nonzero(np.abs(times[start : start + BLOCK, None] - times) < tau) for start in starts]
    asked = np.concatenate([first + start for (first, _), start in zip(found, starts, strict=True)])
    return asked, np.concatenate([second for _, second in found])


def _kth_best(query: Ints, value: Floats, queries: int, top_k: int) -> Floats:
    """[q]: the K-th best of each query's candidates, or the worst where there are fewer; `query` is sorted."""
    ranked = np.append(value[np.lexsort((-value, query))], np.inf)  # what a query without candidates reads
    first = np.searchsorted(query, np.arange(queries + 1))
    return ranked[np.minimum(first[:-1] + top_k, first[1:]) - 1]
