"""Collect the pairs of sightings that may show one person, with their log odds.

N sightings, k neighbours of each, E pairs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from qaconv.tables import Table, as_table, row_blocks
from qaconv.tlift import TLiftProfile
from qaconv.tlift.probability import GallerySize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LIMIT = 6.0  # log odds are kept within this: no single pair counts for more than 400 to 1

BLOCK_NEIGHBOURS = 1 << 20  # that are judged at a time
ROUNDS = 50  # of expectation and maximisation


@dataclass(frozen=True)
class Edges:
    """Pairs of sightings, each once. A pair that is none of them has log odds of -LIMIT.

    Attributes:
        first: number of a sighting, [E].
        second: of another one, larger than the first, [E].
        log_odds: that both show one person, within -LIMIT and LIMIT, [E].
    """

    first: Ints
    second: Ints
    log_odds: Floats

    def __len__(self) -> int:
        return len(self.first)

    def keep(self, kept: Bools) -> "Edges":
        """Return the pairs of a mask [E]."""
        return Edges(self.first[kept], self.second[kept], self.log_odds[kept])

    @classmethod
    def join(cls, one: ArrayLike, other: ArrayLike, log_odds: ArrayLike) -> "Edges":
        """Make edges of pairs in any order; of a pair that is there twice the first counts.

        Args:
            one: number of a sighting, [M]; a pair of a sighting with itself is left out.
            other: [M].
            log_odds: [M]; pairs at -LIMIT and below are left out.

        Example:
            >>> Edges.join([3, 0, 1, 2], [0, 3, 1, 0], [9.0, 1.0, 2.0, -7.0])
            Edges(first=array([0]), second=array([3]), log_odds=array([6.]))
        """
        ends = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
        odds = np.asarray(log_odds, dtype=np.float64)
        kept = np.flatnonzero((ends[0] != ends[1]) & (odds > -LIMIT))
        first, second = np.minimum(*ends)[kept], np.maximum(*ends)[kept]
        _, once = np.unique(first * (1 + second.max(initial=0)) + second, return_index=True)
        return cls(first[once], second[once], np.minimum(odds[kept][once], LIMIT))


def find_edges_by_scores(neighbours: ArrayLike, log_ratios: ArrayLike) -> Edges:
    """Return the pairs of sightings and their neighbours by scores alone, for a target whose profile has no odds.

    How many of all pairs show one person is estimated by expectation and maximisation (Saerens et al., 2002).

    Args:
        neighbours: numbers of each sighting's nearest others, [N, k].
        log_ratios: log likelihood ratios of their scores, which are log odds at even odds, [N, k].

    Example:
        >>> find_edges_by_scores([[1], [0], [0]], [[9.0], [9.0], [-9.0]]).log_odds.round(1).tolist()
        [6.0]
    """
    indices = np.asarray(neighbours, dtype=np.int64)
    one = np.repeat(np.arange(len(indices)), indices.shape[1])
    ratios = np.asarray(log_ratios, dtype=np.float64).ravel()
    pairs = max(1, len(indices) * (len(indices) - 1))
    share = 0.5
    for _ in range(ROUNDS):  # each pair of two neighbours counts twice, as in `pairs`
        share = float(np.clip(expit(ratios + logit(share)).sum() / pairs, 1 / pairs, 0.5))
    return Edges.join(one, indices.ravel(), ratios + logit(share))


def find_edges(
    neighbours: ArrayLike | Table, logits: ArrayLike | Table, sightings: pd.DataFrame, profile: TLiftProfile
) -> Edges:
    """Return the pairs of sightings and their neighbours with the odds of the target, read some rows at a time.

    Args:
        neighbours: numbers of each sighting's nearest others, [N, k].
        logits: with them, [N, k].
        sightings: camid, and time_s on the camera's clock in seconds, NaN where unknown, [N].
        profile: of the target, with match odds.

    Raises:
        ValueError: the profile has no match odds.
    """
    indices, values = as_table(neighbours), as_table(logits)
    camids, times = sightings["camid"].to_numpy(), sightings["time_s"].to_numpy(dtype=np.float64)
    gallery = GallerySize.measure(times)
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for rows in row_blocks(indices.shape, BLOCK_NEIGHBOURS):
        one = np.repeat(np.arange(rows.start, rows.stop), indices.shape[1])
        other = np.asarray(indices[rows], dtype=np.int64).ravel()
        scores = expit(np.asarray(values[rows], dtype=np.float64).ravel())
        places = (camids[one], times[one]), (camids[other], times[other])
        log_odds = profile.pair_log_odds(scores, *places, gallery)
        kept = log_odds > -LIMIT
        parts.append((one[kept], other[kept], log_odds[kept]))
    return Edges.join(*map(np.concatenate, zip(*parts, strict=True)))
