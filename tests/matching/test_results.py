"""Matches are read from their files some rows at a time."""

from pathlib import Path

import numpy as np
import pytest

from qaconv.matching import results
from qaconv.matching.results import Grid, Matches, save_matches, save_reranked

QUERIES, GALLERY, WIDTH = 20, 30, 8
COUNT = QUERIES + GALLERY


@pytest.mark.parametrize("rows_of_a_block", [1, 7, 1000])
def test_any_rows_of_the_neighbours_are_read_without_the_sighting_itself(
    rows_of_a_block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "BLOCK_NEIGHBOURS", rows_of_a_block * WIDTH)
    rng = np.random.default_rng(0)
    distances = rng.random((COUNT, COUNT)).astype(np.float32)
    distances[np.arange(COUNT), np.arange(COUNT)] = 0.0
    distances[3] += np.eye(COUNT, dtype=np.float32)[3]  # which has itself among its farthest
    indices = np.argsort(distances, axis=1)[:, :WIDTH].astype(np.int32)
    near = np.take_along_axis(distances, indices, axis=1)
    nearest = {"indices": indices, "distances": near, "farthest": distances.max(axis=1)}
    (tmp_path / "matches").mkdir()
    (tmp_path / "reranked").mkdir()
    save_matches(tmp_path / "matches", nearest, Grid(QUERIES, COUNT, COUNT), "model")
    save_reranked(tmp_path / "reranked", rng.random((QUERIES, GALLERY)), None, "model", None, {})
    matches = Matches.open(tmp_path / "matches", tmp_path / "reranked", "yard")
    expected = [[other for other in indices[one] if other != one][: WIDTH - 1] for one in range(COUNT)]
    assert matches.neighbours[:].tolist() == expected
    rows = np.array([40, 3, 3, 0])
    assert matches.neighbours[rows].tolist() == [expected[row] for row in rows]
    back = 1 / (1 + np.exp(matches.neighbour_logits[5:9] / results.LOGIT_SCALE))
    assert back == pytest.approx(np.take_along_axis(distances, matches.neighbours[:], axis=1)[5:9], rel=1e-5)


def test_re_ranked_pairs_of_many_queries_are_those_of_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(1).random((QUERIES, GALLERY))
    empty = np.zeros((COUNT, 0))
    matches = Matches(scores, scores, scores, empty, empty, "model", {})
    monkeypatch.setattr(results, "NEIGHBOURS", 5)
    one, other, score = matches.nearest_reranked()
    assert one.tolist() == np.repeat(np.arange(QUERIES), 5).tolist()
    assert score.tolist() == np.sort(scores, axis=1)[:, ::-1][:, :5].ravel().tolist()
    assert score.tolist() == scores[one, other - QUERIES].tolist()
    monkeypatch.setattr(results, "RERANKED_PAIRS", 30)
    drawn = matches.nearest_reranked()
    assert len(np.unique(drawn[0])) == 6 and len(drawn[0]) == 30
    assert drawn[2].tolist() == score[np.isin(one, drawn[0])].tolist()
