"""Time k-reciprocal re-ranking (Zhong et al., CVPR 2017) on vectors; benchmarks/matching.py times the matching of maps.

Q queries, G gallery images, N = Q + G."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.machine import memory_bandwidth
from benchmarks.table import Bound, Row, compare
from qaconv.matching.rerank import NeighbourhoodFinder, k_reciprocal_sparse
from qaconv.metrics import evaluate_ranking

K1, K2, LAMBDA = 20, 6, 0.3
CHANNELS = 64
ROWS = 1024  # of the table of distances, computed at a time
NOISE = 0.9  # deviation of a person's sightings, where that of people is 1: rank-1 is about 0.9
CAMERAS = 6


class Sightings(NamedTuple):
    """Sightings of simulated people: unit vectors [N, CHANNELS], queries first."""

    vectors: Tensor
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    queries: int


def rows() -> Iterator[Row]:
    """Re-rank at Market-1501's size, plain and ours, and at MSMT17's, ours alone."""
    market = _simulate(3368, 15913, people=750)
    results: dict[str, NDArray[np.float32]] = {}

    def keep(name: str, rerank: partial[NDArray[np.float32]]) -> None:
        results[name] = rerank()

    row = compare(
        "Q 3,368, G 15,913",
        partial(keep, "plain", partial(plain_rerank, market)),
        partial(keep, "ours", partial(our_rerank, market)),
        turns=1,
        bound=_bound(market),
    )
    maps = {
        name: evaluate_ranking(
            -distances,
            market.pids[: market.queries],
            market.pids[market.queries :],
            market.camids[: market.queries],
            market.camids[market.queries :],
        ).mean_average_precision
        for name, distances in results.items()
    }
    difference = 100 * (maps["ours"] - maps["plain"])
    yield Row(**{**vars(row), "note": f"mAP {100 * maps['ours']:.3f}, {difference:+.4f} from plain"})
    msmt17 = _simulate(11659, 82161, people=3060)
    yield compare("Q 11,659, G 82,161", None, partial(our_rerank, msmt17), turns=1, bound=_bound(msmt17))


def our_rerank(sightings: Sightings) -> NDArray[np.float32]:
    """Return distances [Q, G], from neighbours that are found tile by tile."""
    vectors, queries = sightings.vectors, sightings.queries
    finder = NeighbourhoodFinder(len(vectors), max(K1 + 1, K2))
    for tile in _tiles(vectors):
        finder.add(*tile)
    across = (1 - vectors[:queries] @ vectors[queries:].T).clamp_(min=0).numpy()
    pairs = partial(_pair_distances, vectors)
    reranked = k_reciprocal_sparse(across, finder.neighbourhoods(), pairs, k1=K1, k2=K2, lambda_value=LAMBDA)
    return reranked[:]


def plain_rerank(sightings: Sightings) -> NDArray[np.float32]:
    """Return distances [Q, G], from tables [N, N] and a loop over images, as the method is usually implemented."""
    vectors, queries = sightings.vectors, sightings.queries
    table = (1 - vectors @ vectors.T).clamp_(min=0).fill_diagonal_(0).numpy()
    table = table / table.max(axis=1, keepdims=True)
    order = np.argsort(table, axis=1).astype(np.int32)
    weights = np.zeros_like(table)
    for image in range(len(table)):
        near = _mutual(order, image, K1)
        expanded = near
        for neighbour in near:
            further = _mutual(order, neighbour, K1 // 2)
            if len(np.intersect1d(further, near)) > 2 / 3 * len(further):
                expanded = np.append(expanded, further)
        expanded = np.unique(expanded)
        closeness = np.exp(-table[image, expanded])
        weights[image, expanded] = closeness / closeness.sum()
    averaged = np.zeros_like(weights)
    for image in range(len(table)):
        averaged[image] = weights[order[image, :K2]].mean(axis=0)
    holders = [np.flatnonzero(averaged[:, image]) for image in range(len(table))]
    jaccard = np.zeros((queries, len(table)), dtype=np.float32)
    for query in range(queries):
        shared = np.zeros(len(table), dtype=np.float32)
        for member in np.flatnonzero(averaged[query]):
            shared[holders[member]] += np.minimum(averaged[query, member], averaged[holders[member], member])
        jaccard[query] = 1 - shared / (2 - shared)
    distances: NDArray[np.float32] = (1 - LAMBDA) * jaccard + LAMBDA * table[:queries]
    return distances[:, queries:]


def _mutual(order: NDArray[np.int32], image: int, k: int) -> NDArray[np.int32]:
    """Return the k-reciprocal neighbours of an image, itself included."""
    forward = order[image, : k + 1]
    backward = order[forward, : k + 1]
    mutual: NDArray[np.int32] = forward[np.where(backward == image)[0]]
    return mutual


def _tiles(vectors: Tensor) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, min(start + ROWS, len(vectors)))
        yield rows, slice(0, len(vectors)), (1 - vectors[rows] @ vectors.T).clamp_(min=0).numpy()


def _pair_distances(vectors: Tensor, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = (1 - (vectors[rows] * vectors[columns]).sum(dim=1)).clamp_(min=0).numpy()
    return distances


def _simulate(queries: int, galleries: int, *, people: int) -> Sightings:
    rng = np.random.default_rng(0)
    count = queries + galleries
    pids = rng.integers(people, size=count)
    seen = rng.normal(size=(people, CHANNELS))[pids] + NOISE * rng.normal(size=(count, CHANNELS))
    vectors = torch.nn.functional.normalize(torch.from_numpy(seen).float(), dim=1)
    return Sightings(vectors, pids, rng.integers(CAMERAS, size=count), queries)


def _bound(sightings: Sightings) -> Bound:
    """Return the time to write and read every distance once, in float32."""
    rate = memory_bandwidth()
    return Bound(f"memory at {rate / 1e9:.0f} GB/s", 2 * 4 * len(sightings.vectors) ** 2 / rate)
