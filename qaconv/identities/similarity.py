"""Compare sightings by their neighbours: two that show one person are likely to be like the same others.

A k-reciprocal encoding (Zhong et al., CVPR 2017) whose weights are the probabilities of pairs, times included, in place
of distances by looks. N sightings, E pairs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from qaconv.identities.graph import Edges
from qaconv.matching.rerank import expand_reciprocal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

K2 = 6  # neighbours whose encodings are averaged, as in the paper
PER_MATCH = 1.2  # neighbours that count for each other sighting of its person that a sighting is expected to have
K1 = (6, 30)  # fewest and most neighbours that count; the paper has 20
NEAR = -2.0  # log odds of a pair above which one is a neighbour of the other
BLOCK = 1 << 18  # pairs compared at a time


def neighbour_similarity(edges: Edges, sightings: int) -> Floats:
    """Return the Jaccard similarity of the encodings of each pair, within 0 and 1, [E].

    Args:
        edges: pairs with their odds.
        sightings: their number, N.

    Example:
        >>> edges = Edges.join([0, 0, 1], [1, 2, 2], [4.0, 4.0, -3.0])
        >>> neighbour_similarity(edges, 3).round(2)
        array([0.76, 0.76, 0.6 ])
    """
    encoding = _encode(edges.keep(edges.log_odds > NEAR), sightings, count_neighbours(edges, sightings))
    similarity = np.empty(len(edges))
    for start in range(0, len(edges), BLOCK):
        block = slice(start, start + BLOCK)
        shared = encoding[edges.first[block]].minimum(encoding[edges.second[block]]).sum(axis=1)
        # Rows of the encoding sum to 1, so the sum of maxima, which Jaccard divides by, is 2 - shared.
        similarity[block] = shared / (2 - shared)
    return similarity


def count_neighbours(edges: Edges, sightings: int) -> int:
    """Return how many neighbours of each sighting count: some more than the others of its person are expected to be.

    Example:
        >>> pairs = [(one, other) for one in range(16) for other in range(one)]
        >>> count_neighbours(Edges.join(*zip(*pairs, strict=True), [6.0] * len(pairs)), 16)
        18
    """
    expected = 2 * float(expit(edges.log_odds).sum()) / max(1, sightings)
    return int(np.clip(round(PER_MATCH * expected), *K1))


def _encode(edges: Edges, sightings: int, k1: int) -> sparse.csr_array:
    """Encode each sighting by its k-reciprocal neighbours, expanded by those of neighbours that agree, [N, N]."""
    itself = np.arange(sightings)
    one = np.concatenate([edges.first, edges.second, itself])
    other = np.concatenate([edges.second, edges.first, itself])
    likely = np.concatenate([np.tile(expit(edges.log_odds), 2), np.full(sightings, 2.0)])  # itself comes first
    order = np.lexsort((other, -likely, one))
    one, other, likely = one[order], other[order], np.minimum(likely[order], 1.0)
    rank = np.arange(len(one)) - np.searchsorted(one, itself)[one]

    def nearest(count: int) -> sparse.csr_array:
        kept = rank < count
        return sparse.csr_array((np.ones(kept.sum()), (one[kept], other[kept])), shape=(sightings, sightings))

    expanded = expand_reciprocal(nearest, k1)
    expanded.data[:] = 1.0
    expanded = expanded.multiply(sparse.csr_array((likely, (one, other)), shape=expanded.shape)).tocsr()
    expanded = sparse.diags_array(1 / expanded.sum(axis=1)) @ expanded
    averaged = nearest(K2)
    return (sparse.diags_array(1 / averaged.sum(axis=1)) @ averaged @ expanded).tocsr()
