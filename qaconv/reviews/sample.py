"""Draw pairs of sightings for people to answer: a stratified random sample in an order of which every start is one.

N candidate pairs, H strata.

The strata are ranges of the stated probability, so that a stratum is either all marked as matches or not at all. Within
a stratum the order is random. Marked and other pairs take turns, and within each of the two the strata do, in
proportion to their pairs and to how far the answers can differ there (Neyman, 1934). So the first n pairs of the order
are a stratified sample for every n, and nobody has to say before how many answers there will be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEARCHES = 200  # of a gallery's own sightings, at most, that give the candidate pairs
CANDIDATES = 20  # best ones on other cameras that each search gives
EDGES = (0.01, 0.1, 0.3, 0.6, 0.9, 0.97, 0.99)  # probabilities between the strata, next to the threshold
LEAST_SHARE = 0.02  # of other answers than expected: a stratum that is stated as sure is asked about too
SHARED_EVERY = 5  # pairs of the order, one of which every reviewer is asked, so that two can disagree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """The order in which candidate pairs are asked about.

    Attributes:
        order: positions of the candidate pairs, first asked first, [N].
        stratum: number of each candidate pair's stratum, from 0 for the least probable ones, [N].
        edges: probabilities between the strata, ascending.
    """

    order: Ints
    stratum: Ints
    edges: Floats

    def names(self) -> list[str]:
        """Return the range of probabilities of each pair's stratum, such as "0.1 to 0.3", [N]."""
        ends = [f"{end:.4g}" for end in (0.0, *self.edges, 1.0)]
        return [f"{ends[number]} to {ends[number + 1]}" for number in self.stratum]


def draw_sample(probabilities: ArrayLike, threshold: float, *, seed: int | tuple[int, ...]) -> Sample:
    """Draw the order of the candidate pairs.

    Args:
        probabilities: stated for each pair, [N].
        threshold: probability above which a pair is marked as a match.
        seed: of the draw; the same pairs and seed give the same order.

    Raises:
        ValueError: a probability or the threshold is not in 0..1.

    Example:
        >>> draw_sample([0.2, 0.95, 0.001], 0.5, seed=0).stratum
        array([2, 5, 0])
    """
    stated = np.asarray(probabilities, dtype=np.float64)
    if not ((stated >= 0) & (stated <= 1)).all() or not 0 <= threshold <= 1:
        raise ValueError("probabilities and threshold must be in 0..1")
    edges = np.unique([*EDGES, threshold])
    stratum = np.searchsorted(edges, stated, side="left")  # a pair at the threshold is not marked
    rng = np.random.default_rng(seed)
    turn = np.empty(len(stated))
    for side in (stated > threshold, stated <= threshold):
        strata = [rng.permutation(np.flatnonzero(side & (stratum == number))) for number in np.unique(stratum[side])]
        shares = np.array([len(members) * _deviation(stated[members].mean()) for members in strata])
        for members, share in zip(strata, shares / shares.sum(), strict=True):
            turn[members] = (np.arange(len(members)) + 0.5) / share
    return Sample(np.argsort(turn, kind="stable"), stratum, edges)


def _deviation(expected: float) -> float:
    """Return the standard deviation of answers of which this share is expected to be "same"."""
    share = min(max(expected, LEAST_SHARE), 1 - LEAST_SHARE)
    return float(np.sqrt(share * (1 - share)))
