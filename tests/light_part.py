"""Use the parts of the library that need no torch, on simulated people; run in a process that cannot import more."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qaconv.matching import MapStore, Shortlist, score_matrix, score_pairs, search
from qaconv.matching.rerank import k_reciprocal
from qaconv.metrics import evaluate_ranking
from qaconv.runtime.head import Head
from qaconv.tlift import TLiftProfile, fit_profile

PEOPLE, CAMERAS, SHAPE = 40, 3, (16, 3, 2)  # C, H, W
WALK_S, SPREAD_S, ARRIVALS_S = 60.0, 5.0, 30.0


def simulate() -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Walk each person past all cameras; return maps [N, C, H, W], pids [N], camids [N] and times [N] in seconds."""
    rng = np.random.default_rng(0)
    pids = np.repeat(np.arange(1, PEOPLE + 1), CAMERAS)
    camids = np.tile(np.arange(CAMERAS), PEOPLE)
    starts = np.cumsum(rng.exponential(ARRIVALS_S, PEOPLE))
    times = np.repeat(starts, CAMERAS) + WALK_S * camids + rng.normal(0, SPREAD_S, len(pids))
    maps = rng.normal(size=(PEOPLE, *SHAPE))[pids - 1] + 0.8 * rng.normal(size=(len(pids), *SHAPE))
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    return maps.astype(np.float32), pids, camids, times


def main() -> None:
    """Match, store, re-rank, measure, and fit and apply a temporal profile."""
    maps, pids, camids, times = simulate()
    weights = np.full(SHAPE[1] * SHAPE[2], 1.5, dtype=np.float32)
    head = Head(weights, weights, bias=-9.0)
    queries = slice(0, len(maps), 4)
    gallery = np.setdiff1d(np.arange(len(maps)), np.arange(len(maps))[queries])

    logits = score_matrix(maps, maps, head)
    np.testing.assert_array_equal(logits, logits.T)
    nearest = search(maps, maps, head, top_k=20)
    assert (nearest.indices[:, 0] == np.arange(len(maps))).all()
    rows = np.arange(5)
    np.testing.assert_array_equal(score_pairs(maps, rows, rows + 1, head), logits[rows, rows + 1])
    shortlist = Shortlist(maps[gallery], head, top_k=2)
    assert shortlist.search(maps[queries]).indices.shape == (len(maps[queries]), 2)
    with tempfile.TemporaryDirectory() as folder:
        store = MapStore.create(Path(folder) / "maps", SHAPE, dtype="int8", model="simulated")
        store.append(maps, [f"{image}.jpg" for image in range(len(maps))], camids, times)
        np.testing.assert_allclose(score_matrix(store, store, head, engine="int8"), logits, atol=0.5)

    truth = (pids[queries], pids[gallery], camids[queries], camids[gallery])
    direct = logits[queries][:, gallery]
    distances = 1 / (1 + np.exp(logits / 10))
    reranked = k_reciprocal(
        distances[queries][:, gallery], distances[queries][:, queries], distances[gallery][:, gallery], k1=5, k2=2
    )
    for scores in (direct, -reranked):
        assert evaluate_ranking(scores, *truth).mean_average_precision > 0.3

    others = nearest.indices[:, 1:], 1 / (1 + np.exp(-nearest.scores[:, 1:]))
    profile = fit_profile(*others, camids, times)
    with tempfile.TemporaryDirectory() as folder:
        profile.save(Path(folder) / "profile.json")
        loaded = TLiftProfile.load(Path(folder) / "profile.json")
    scores = 1 / (1 + np.exp(-direct.astype(np.float64)))
    lifted = loaded.lift(scores, camids[queries], times[queries], camids[gallery], times[gallery])
    assert lifted.shape == direct.shape and np.isfinite(lifted).all()


if __name__ == "__main__":
    main()
