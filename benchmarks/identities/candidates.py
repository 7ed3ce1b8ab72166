"""Group sightings by other rules that need no labels, from the log odds that `identify` reads.

N sightings, E pairs. Weights are log odds less JOIN, so that two sightings above 0 are rather joined.
"""

import heapq
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from benchmarks.identities.plain import average_linkage_at
from qaconv.identities import Edges
from qaconv.identities.graph import LIMIT

JOIN = -2.5  # log odds above which two sightings are rather joined, chosen on the drawn networks
NO_EDGE = -LIMIT - JOIN  # weight of two sightings that are no pair
ROUNDS = 20  # of moves, at most
SEED = 0  # of the order in which sightings are visited

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def candidates(edges: Edges, sightings: int) -> Iterator[tuple[str, Ints]]:
    """Yield the name and the identities of each rule; Leiden where leidenalg is installed."""
    weights = edges.log_odds - JOIN
    odds = _symmetric(edges, edges.log_odds + LIMIT, sightings).astype(np.float32)
    distances = 2 * LIMIT - odds.toarray()
    yield "average linkage, mean log odds", average_linkage_at(distances, LIMIT - JOIN)
    greedy = contract(edges, weights, sightings)
    yield "correlation clustering, greedy", greedy
    yield "correlation clustering, greedy and moves", move(edges, weights, greedy)
    if find_spec("leidenalg"):
        yield "correlation clustering, Leiden", leiden(edges, weights, sightings)
    yield "label propagation", propagate(edges, weights, sightings)


def contract(edges: Edges, weights: Floats, sightings: int) -> Ints:
    """Join the two clusters with the highest sum of weights until none is above 0 (Keuper et al., 2015), [N]."""
    cluster = list(range(sightings))
    sizes = [1] * sightings
    between: list[dict[int, float]] = [{} for _ in cluster]  # sums over pairs, less NO_EDGE for each pair
    for one, other, weight in zip(edges.first.tolist(), edges.second.tolist(), weights.tolist(), strict=True):
        between[one][other] = between[other][one] = weight - NO_EDGE
    heap: list[tuple[float, int, int]] = []

    def offer(one: int, other: int) -> None:
        total = between[one][other] + NO_EDGE * sizes[one] * sizes[other]
        if total > 0:
            heapq.heappush(heap, (-total, min(one, other), max(one, other)))

    for one, other in zip(edges.first.tolist(), edges.second.tolist(), strict=True):
        offer(one, other)
    while heap:
        negative, one, other = heapq.heappop(heap)
        if cluster[one] != one or cluster[other] != other:
            continue
        if between[one][other] + NO_EDGE * sizes[one] * sizes[other] != -negative:
            continue  # one of them has grown since
        cluster[other] = one
        sizes[one] += sizes[other]
        del between[one][other]
        for third, value in between[other].items():
            if third != one:
                del between[third][other]
                between[one][third] = between[third][one] = between[one].get(third, 0.0) + value
        for third in between[one]:
            offer(one, third)
    for number in range(sightings):
        while cluster[number] != cluster[cluster[number]]:
            cluster[number] = cluster[cluster[number]]
    return np.asarray(cluster, dtype=np.int64)


def move(edges: Edges, weights: Floats, identity: Ints) -> Ints:
    """Move single sightings to the cluster with the highest sum of weights, or out, while that sum grows, [N]."""
    table = _symmetric(edges, weights - NO_EDGE, len(identity))
    labels = np.unique(identity, return_inverse=True)[1]
    sizes = np.bincount(labels, minlength=len(labels) + 1)
    rng = np.random.default_rng(SEED)
    for _ in range(ROUNDS):
        before = labels.copy()
        for row in rng.permutation(len(labels)):
            part = slice(table.indptr[row], table.indptr[row + 1])
            near, position = np.unique(np.append(labels[table.indices[part]], labels[row]), return_inverse=True)
            sums = np.bincount(position, np.append(table.data[part], 0.0))
            sums += NO_EDGE * (sizes[near] - (near == labels[row]))
            best = int(sums.argmax())
            if max(sums[best], 0) <= sums[near == labels[row]][0]:
                continue
            sizes[labels[row]] -= 1
            labels[row] = near[best] if sums[best] > 0 else int(np.flatnonzero(sizes == 0)[0])
            sizes[labels[row]] += 1
        if np.array_equal(labels, before):
            break
    return labels


def leiden(edges: Edges, weights: Floats, sightings: int) -> Ints:
    """Maximise the sum of weights within clusters by Leiden (Traag et al., 2019), [N]: its CPM at -NO_EDGE."""
    igraph, leidenalg = import_module("igraph"), import_module("leidenalg")
    graph = igraph.Graph(n=sightings, edges=np.stack([edges.first, edges.second], axis=1).tolist())
    partition = leidenalg.find_partition(
        graph,
        leidenalg.CPMVertexPartition,
        weights=(weights - NO_EDGE).tolist(),
        resolution_parameter=-NO_EDGE,
        n_iterations=5,
        seed=SEED,
    )
    return np.asarray(partition.membership, dtype=np.int64)


def propagate(edges: Edges, weights: Floats, sightings: int) -> Ints:
    """Propagate labels over positive weights: each sighting takes the heaviest (Raghavan et al., 2007), [N]."""
    likely = weights > 0
    table = _symmetric(edges.keep(likely), weights[likely], sightings)
    labels = np.arange(sightings)
    rng = np.random.default_rng(SEED)
    for _ in range(ROUNDS):
        before = labels.copy()
        for row in rng.permutation(np.flatnonzero(np.diff(table.indptr))):
            part = slice(table.indptr[row], table.indptr[row + 1])
            near, position = np.unique(labels[table.indices[part]], return_inverse=True)
            labels[row] = near[np.bincount(position, table.data[part]).argmax()]
        if np.array_equal(labels, before):
            break
    return labels


def _symmetric(edges: Edges, weights: Floats, sightings: int) -> csr_array:
    """Return the weights of pairs as a table, [N, N]."""
    ends = np.concatenate([edges.first, edges.second]), np.concatenate([edges.second, edges.first])
    return csr_array((np.tile(weights, 2), ends), shape=(sightings, sightings))
