import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.matching.all_pairs import match_rows
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from tests.random_heads import random_head

QUERIES = 8
CPU = torch.device("cpu")


def rerank_all(maps: NDArray[np.float32], queries: int, is_measured: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Match and re-rank; return the scores among all, then those among the measured if some are not."""
    head = random_head(4, 3, 2, seed=1)
    part = match_rows(maps, slice(0, len(maps)), head, queries, is_measured, "exact", CPU, model="")
    distances_of = make_pair_distances(maps, head, "exact", CPU)
    return [scores for scores in rerank_target(KReciprocal(), part, distances_of, is_measured) if scores is not None]


def test_sightings_that_are_not_measured_change_no_score_of_the_measured_ones() -> None:
    maps = np.random.default_rng(5).normal(size=(40, 4, 3, 2)).astype(np.float32)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    is_measured = np.ones(40, dtype=bool)
    is_measured[[2, 7, 11, 30]] = False  # two queries among them
    among_all, among_measured = rerank_all(maps, QUERIES, is_measured)
    (alone,) = rerank_all(maps[is_measured], QUERIES - 2, np.ones(36, dtype=bool))
    np.testing.assert_allclose(among_measured, alone, atol=1e-5)
    assert among_all.shape == (QUERIES, 32)
    assert np.abs(among_all[is_measured[:QUERIES]][:, is_measured[QUERIES:]] - alone).max() > 0.01
