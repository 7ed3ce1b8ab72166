"""Re-rank a target's gallery among all sightings, and among the measured ones.

N sightings: Q queries, then a gallery of G. M of them are measured (no junk, for example), of which P are queries.
"""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.config.kinds import RerankSettings
from qaconv.matching.pairs import score_pairs
from qaconv.matching.rerank import Distances
from qaconv.matching.results import Matched, as_distances
from qaconv.matching.store import MapStore
from qaconv.matching.tiles import Engine
from qaconv.models.head import QAConv
from qaconv.tables import Table, choose, convert


def rerank_target(
    reranker: RerankSettings | None, matches: Matched, distances_of: Distances, is_measured: NDArray[np.bool_]
) -> tuple[Table, Table | None]:
    """Return scores [Q, G], and [P, M - P] as if only the measured sightings existed; None where all are measured.

    Args:
        reranker: as `RerankSettings.choose` returns it for the target; None keeps the direct ranking.
        matches: of all sightings.
        distances_of: distances of further pairs of sightings.
        is_measured: whether results are about a sighting, [N].
    """
    queries = matches.logits.shape[0]
    distances = convert(matches.logits, as_distances, np.float32)
    kept_distances = choose(distances, is_measured[:queries], is_measured[queries:])
    is_everything = matches.measured is matches.everything
    if reranker is None:
        scores, kept_scores = (
            convert(table, lambda rows: 1 - rows, np.float32) for table in (distances, kept_distances)
        )
        return scores, None if is_everything else kept_scores
    scores = reranker.rerank(distances, matches.everything, distances_of)
    if is_everything:
        return scores, None
    renumbered = partial(_renumbered_pairs, distances_of, np.flatnonzero(is_measured))
    return scores, reranker.rerank(kept_distances, matches.measured, renumbered)


def make_pair_distances(maps: MapStore, head: QAConv, engine: Engine, device: torch.device) -> Distances:
    """Make a function that matches single pairs of sightings and returns their distances.

    Args:
        maps: of all sightings, [N, C, H, W].
        head: of the network.
        engine: `evaluate.engine`.
        device: where to match.
    """

    def distances_of(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float32]:
        return as_distances(score_pairs(maps, rows, columns, head, engine=engine, device=device))

    return distances_of


def _renumbered_pairs(
    distances_of: Distances,
    kept_rows: NDArray[np.integer],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.floating]:
    return distances_of(kept_rows[rows], kept_rows[columns])
