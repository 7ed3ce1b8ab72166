"""Estimate confidence intervals of means over queries by the bootstrap (Efron, 1979).

Q queries are drawn with replacement; the interval is that of the percentiles. Queries of one person resemble each
other, so for few people the true interval is wider.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000
CONFIDENCE = 0.95
BLOCK_QUERIES = 1 << 22  # drawn at a time: 64 MB


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its 95 per cent confidence interval.

    Attributes:
        value: mean.
        low: lower end of the interval.
        high: upper end of the interval.
        queries: number of queries that count.
    """

    value: float
    low: float
    high: float
    queries: int


def mean_with_interval(values: ArrayLike, *, seed: int) -> Estimate:
    """Estimate the mean of a value for each query.

    Args:
        values: [Q]; queries with NaN do not count.
        seed: of the bootstrap.

    Raises:
        ValueError: no query counts.
    """
    counted = np.asarray(values, dtype=np.float64)
    counted = counted[~np.isnan(counted)]
    if not len(counted):
        raise ValueError("at least one query must count, got none")
    low, high = np.quantile(_bootstrap_means(counted, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(counted.mean()), float(low), float(high), len(counted))


def paired_difference(first: ArrayLike, second: ArrayLike, *, seed: int) -> Estimate:
    """Estimate the mean of `first` less `second` on the same queries, [Q] each.

    Each query is compared with itself, so two models may differ significantly even if their own intervals overlap. They
    differ if the interval does not contain 0.

    Raises:
        ValueError: lengths differ, or the queries that count differ.
    """
    return mean_with_interval(_differences(first, second), seed=seed)


def mean_paired_difference(pairs: Sequence[tuple[ArrayLike, ArrayLike]], *, seed: int) -> Estimate:
    """Estimate the mean over targets of their paired differences; each target has its own queries and equal weight.

    Raises:
        ValueError: lengths differ, or the queries that count differ.
    """
    differences = [_differences(first, second) for first, second in pairs]
    differences = [values[~np.isnan(values)] for values in differences]
    seeds = np.random.SeedSequence(seed).spawn(len(pairs))
    draws = [_bootstrap_means(values, child) for values, child in zip(differences, seeds, strict=True)]
    means = np.mean(draws, axis=0)
    value = np.mean([values.mean() for values in differences])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high), sum(map(len, differences)))


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
        raise ValueError(
            f"the same queries must count in both, got {int((~np.isnan(one)).sum())} of {len(one)} in the first and "
            f"{int((~np.isnan(other)).sum())} of {len(other)} in the second"
        )
    return one - other


def _bootstrap_means(values: NDArray[np.float64], seed: int | np.random.SeedSequence) -> NDArray[np.float64]:
    """Means of the draws, [DRAWS]."""
    rng, count = np.random.default_rng(seed), len(values)
    rows = max(1, BLOCK_QUERIES // count)
    blocks = [min(rows, DRAWS - start) for start in range(0, DRAWS, rows)]
    return np.concatenate([values[rng.integers(count, size=(block, count))].mean(axis=1) for block in blocks])
