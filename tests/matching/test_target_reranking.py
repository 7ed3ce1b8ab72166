from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.matched import match_maps
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from tests.random_heads import random_head

QUERIES = 8
CPU = torch.device("cpu")


def rerank_all(
    maps: NDArray[np.float32], queries: int, is_measured: NDArray[np.bool_], folder: Path
) -> list[NDArray[np.float32]]:
    """Match and re-rank; return the scores among all, then those among the measured if some are not."""
    head = random_head(4, 3, 2, seed=1)
    store, matched = match_maps(maps, head, queries, folder, is_measured=is_measured)
    distances_of = make_pair_distances(store, head, "exact", CPU)
    tables = rerank_target(KReciprocal(), matched, distances_of, is_measured)
    return [scores[:] for scores in tables if scores is not None]


def test_sightings_that_are_not_measured_change_no_score_of_the_measured_ones(tmp_path: Path) -> None:
    maps = np.random.default_rng(5).normal(size=(40, 4, 3, 2)).astype(np.float32)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    is_measured = np.ones(40, dtype=bool)
    is_measured[[2, 7, 11, 30]] = False  # two queries among them
    among_all, among_measured = rerank_all(maps, QUERIES, is_measured, tmp_path / "all")
    (alone,) = rerank_all(maps[is_measured], QUERIES - 2, np.ones(36, dtype=bool), tmp_path / "measured")
    np.testing.assert_allclose(among_measured, alone, atol=1e-5)
    assert among_all.shape == (QUERIES, 32)
    assert np.abs(among_all[is_measured[:QUERIES]][:, is_measured[QUERIES:]] - alone).max() > 0.01


def test_without_a_reranker_the_scores_keep_the_direct_ranking(tmp_path: Path) -> None:
    maps = np.random.default_rng(5).normal(size=(30, 4, 3, 2)).astype(np.float32)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    is_measured = np.arange(30) != 20
    head = random_head(4, 3, 2, seed=1)
    store, matched = match_maps(maps, head, QUERIES, tmp_path, is_measured=is_measured)
    distances_of = make_pair_distances(store, head, "exact", CPU)
    scores, measured = rerank_target(None, matched, distances_of, is_measured)
    logits = matched.logits[:]
    assert measured is not None
    np.testing.assert_array_equal(scores[:].argsort(axis=1), logits.argsort(axis=1))
    np.testing.assert_array_equal(measured[:], scores[:][:, is_measured[QUERIES:]])
