"""Group sightings by plain rules, each as strong as labels can make it.

N sightings. A rule reads distances of all pairs, float32 [N, N], and returns the identity of each sighting, [N].
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cut_tree, fcluster, linkage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from benchmarks.identities.networks import Network
from qaconv.matching.rerank import NeighbourhoodFinder, encode_neighbours, jaccard_distances
from qaconv.metrics.clusters import measure_b_cubed

FALSE_MATCH_RATE = 1e-3
CUTS = 200  # numbers of clusters that are tried
EPS = tuple(np.arange(0.20, 0.71, 0.05).round(2).tolist())  # unsupervised re-identification uses 0.4 to 0.6
MIN_SAMPLES = 4
K1, K2 = 30, 6  # of the Jaccard distance, as unsupervised re-identification sets them
BLOCK = 64  # rows whose distances are computed at a time

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def plain_rules(network: Network, distances: Floats) -> Iterator[tuple[str, Ints]]:
    """Yield the name and the identities of each rule."""
    threshold = find_threshold(network, distances)
    yield "connected components", components(distances, threshold)
    yield "average linkage, best cut", _best(network, average_linkage(distances))
    reranked = jaccard(distances)
    yield "average linkage, re-ranked, best cut", _best(network, average_linkage(reranked))
    yield "DBSCAN, re-ranked, best eps", _best(network, (dbscan(reranked, eps, MIN_SAMPLES) for eps in EPS))


def find_threshold(network: Network, distances: Floats) -> float:
    """Return the distance below which FALSE_MATCH_RATE of the pairs of two known people are."""
    rows = np.flatnonzero(network.known)
    pids = network.sightings["pid"].to_numpy()[rows]
    two_people = pids[:, None] != pids
    return float(np.quantile(distances[np.ix_(rows, rows)][two_people], FALSE_MATCH_RATE))


def components(distances: Floats, threshold: float) -> Ints:
    """Return the connected components of the pairs below a distance."""
    labels: Ints = connected_components(csr_array(distances < threshold), directed=False)[1].astype(np.int64)
    return labels


def average_linkage(distances: Floats) -> Iterator[Ints]:
    """Yield the clusterings by average linkage, at CUTS numbers of clusters from 1 to N."""
    tree = _average_tree(distances)
    counts = np.unique(np.geomspace(1, len(distances), CUTS).round().astype(np.int64))
    yield from cut_tree(tree, counts).T.astype(np.int64)


def average_linkage_at(distances: Floats, cut: float) -> Ints:
    """Return the clustering by average linkage below a mean distance."""
    labels: Ints = fcluster(_average_tree(distances), cut, "distance").astype(np.int64)
    return labels


def _average_tree(distances: Floats) -> NDArray[np.float64]:
    tree: NDArray[np.float64] = linkage(squareform(distances, checks=False), "average")
    return tree


def jaccard(distances: Floats, k1: int = K1) -> Floats:
    """Return the Jaccard distances of the k-reciprocal encodings, [N, N] (Zhong et al., 2017)."""
    size = len(distances)
    table = distances.copy()
    finder = NeighbourhoodFinder(size, max(k1 + 1, K2))
    finder.add(slice(0, size), slice(0, size), table)  # writes 0 on the diagonal
    encoding = encode_neighbours(finder.neighbourhoods(), lambda rows, columns: table[rows, columns], k1=k1, k2=K2)
    by_column = encoding.tocsc()
    for start in range(0, size, BLOCK):
        block = jaccard_distances(encoding[start : start + BLOCK], by_column)
        table[start : start + BLOCK] = np.maximum(block, 0)  # rounding leaves some below 0
    return table


def dbscan(distances: Floats, eps: float, min_samples: int) -> Ints:
    """Return the clusters of DBSCAN (Ester et al., 1996); a sighting of no cluster is one alone.

    Args:
        distances: [N, N], 0 on the diagonal.
        eps: largest distance of two neighbours.
        min_samples: neighbours of a core sighting, itself among them.
    """
    is_core = (distances <= eps).sum(axis=1) >= min_samples
    core = np.flatnonzero(is_core)
    labels = np.arange(len(distances))
    if not len(core):
        return labels
    among_core = csr_array(distances[np.ix_(core, core)] <= eps)
    labels[core] = len(labels) + connected_components(among_core, directed=False)[1]
    border = np.flatnonzero(~is_core)
    nearest = core[distances[np.ix_(border, core)].argmin(axis=1)]
    reached = distances[border, nearest] <= eps
    labels[border[reached]] = labels[nearest[reached]]
    return labels


def _best(network: Network, clusterings: Iterable[Ints]) -> Ints:
    """Return the clustering with the highest B-cubed F1 by labels."""
    known, pids = network.known, network.sightings["pid"].to_numpy()
    return max(clusterings, key=lambda identity: measure_b_cubed(identity[known], pids[known]).f1)
