"""A figure of each query goes in; its mean comes out, and how far another draw of queries could have moved it.

Queries are drawn with replacement, as many as there are; the interval is that of the percentiles (Efron, 1979).
Queries of one person resemble each other, so for few people the true interval is wider.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000
CONFIDENCE = 0.95
BLOCK_QUERIES = 1 << 22  # drawn together, over all their draws: 64 MB


@dataclass(frozen=True)
class Estimate:
    """A mean over queries, and the interval that holds it in 95 of 100 draws of queries.

    Attributes:
        value: the mean.
        low: lower end of the interval.
        high: upper end.
        queries: how many counted.
    """

    value: float
    low: float
    high: float
    queries: int


def mean_with_interval(values: ArrayLike, *, seed: int) -> Estimate:
    """The mean of a figure of each query [Q]; NaN is a query that does not count.

    Raises:
        ValueError: no query counts.
    """
    of_queries = np.asarray(values, dtype=np.float64)
    of_queries = of_queries[~np.isnan(of_queries)]
    if not len(of_queries):
        raise ValueError("no query counts")
    low, high = np.quantile(_drawn_means(of_queries, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(of_queries.mean()), float(low), float(high), len(of_queries))


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int) -> Estimate:
    """How much better `first` does than `second`, on the same queries [Q] in the same order.

    Each query is compared with itself, so that hard and easy ones cancel out: two models whose own intervals overlap
    may still differ beyond doubt. They differ where the interval does not hold 0.

    Raises:
        ValueError: lengths differ, or other queries count in one than in the other.
    """
    return mean_with_interval(_differences(first, second), seed=seed)


def mean_paired_difference(pairs: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int) -> Estimate:
    """`paired_difference`, mean over targets, each with queries of its own and the same weight.

    Raises:
        ValueError: as `paired_difference`.
    """
    differences = [_differences(first, second) for first, second in pairs]
    differences = [of_queries[~np.isnan(of_queries)] for of_queries in differences]
    seeds = np.random.SeedSequence(seed).spawn(len(pairs))
    means = np.mean([_drawn_means(of, own) for of, own in zip(differences, seeds, strict=True)], axis=0)
    value = np.mean([of_queries.mean() for of_queries in differences])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high), sum(map(len, differences)))


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
        raise ValueError(
            f"figures are of other queries: {int((~np.isnan(one)).sum())} of {len(one)} count in the first, "
            f"{int((~np.isnan(other)).sum())} of {len(other)} in the second"
        )
    return one - other


def _drawn_means(values: NDArray[np.float64], seed: int | np.random.SeedSequence) -> NDArray[np.float64]:
    """[DRAWS]"""
    rng, count = np.random.default_rng(seed), len(values)
    rows = max(1, BLOCK_QUERIES // count)
    blocks = [min(rows, DRAWS - start) for start in range(0, DRAWS, rows)]
    return np.concatenate([values[rng.integers(count, size=(block, count))].mean(axis=1) for block in blocks])
