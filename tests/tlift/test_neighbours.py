"""What a fit gathers of the neighbours in blocks is what loops over all of them find."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.tlift import neighbours
from qaconv.tlift.neighbours import Neighbours
from qaconv.tlift.sampling import Sample

COUNT, WIDTH, CAMERAS = 90, 12, 4

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@pytest.fixture(params=[1, 5, 1000])
def rows_of_a_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_NEIGHBOURS", request.param * WIDTH)


def drawn(seed: int) -> tuple[Ints, Floats, Ints, Floats]:
    """Return neighbours in any order, scores with ties, cameras and times."""
    rng = np.random.default_rng(seed)
    indices = np.stack([rng.permutation(np.delete(np.arange(COUNT), one))[:WIDTH] for one in range(COUNT)])
    scores = np.sort(rng.integers(0, 6, indices.shape) / 6, axis=1)[:, ::-1]
    return indices, scores, np.sort(rng.integers(0, CAMERAS, COUNT)), rng.uniform(0, 300, COUNT)


def plain_pairs(
    indices: Ints, scores: Floats, camids: Ints, used: NDArray[np.bool_]
) -> list[tuple[int, int, float, bool]]:
    """Return the pairs of neighbours on two cameras: both numbers, score, and whether they are mutual best matches."""

    def best(one: int, camid: int) -> int:
        on_camera = [
            (-scores[one, column], other) for column, other in enumerate(indices[one]) if camids[other] == camid
        ]
        return min(on_camera)[1] if on_camera else -1

    found: dict[tuple[int, int], float] = {}
    for one in range(COUNT):
        for column, other in enumerate(indices[one]):
            if camids[one] != camids[other] and used[one] and used[other]:
                found.setdefault((min(one, other), max(one, other)), scores[one, column])
    return [
        (*ends, score, best(ends[0], camids[ends[1]]) == ends[1] and best(ends[1], camids[ends[0]]) == ends[0])
        for ends, score in sorted(found.items())
    ]


@pytest.mark.usefixtures("rows_of_a_block")
@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_are_gathered_once_with_their_scores_and_mutual_best_matches(seed: int) -> None:
    indices, scores, camids, times = drawn(seed)
    used = np.random.default_rng(seed).random(COUNT) < 0.9
    read = Neighbours.check("neighbour", indices, scores, COUNT)
    pairs, returns, nearest, lowest = read.gather(np.arange(COUNT), camids, times, used, Sample.of_all(camids))
    gathered = zip(*(part.tolist() for part in (pairs.first, pairs.second, pairs.score, pairs.mutual)), strict=True)
    assert list(gathered) == plain_pairs(indices, scores, camids, used)
    row, column = np.nonzero(camids[indices] == camids[:, None])
    assert returns.one.tolist() == row.tolist()
    assert returns.other.tolist() == indices[row, column].tolist()
    assert returns.score.tolist() == scores[row, column].tolist()
    assert nearest.tolist() == indices[:, 0].tolist()
    assert lowest.tolist() == scores.min(axis=1).tolist()


@pytest.mark.usefixtures("rows_of_a_block")
def test_a_sample_has_all_pairs_of_its_anchors_and_no_other_and_the_same_mutual_matches() -> None:
    indices, scores, camids, times = drawn(7)
    used, anchors = np.ones(COUNT, dtype=bool), np.arange(COUNT) % 5 == 0
    sample = Sample(anchors, np.zeros((CAMERAS, CAMERAS), dtype=bool), camids)
    read = Neighbours.check("neighbour", indices, scores, COUNT)
    pairs = read.gather(np.arange(COUNT), camids, times, used, sample).pairs
    gathered = zip(*(part.tolist() for part in (pairs.first, pairs.second, pairs.score, pairs.mutual)), strict=True)
    assert list(gathered) == [
        pair for pair in plain_pairs(indices, scores, camids, used) if anchors[pair[0]] or anchors[pair[1]]
    ]


@pytest.mark.usefixtures("rows_of_a_block")
def test_a_pair_is_among_the_neighbours_if_either_sighting_has_the_other() -> None:
    indices, scores, camids, _ = drawn(8)
    one, other = np.divmod(np.arange(COUNT * COUNT), COUNT)
    read = Neighbours.check("neighbour", indices, scores, COUNT)
    has = np.zeros((COUNT, COUNT), dtype=bool)
    np.put_along_axis(has, indices, True, axis=1)
    assert read.among(np.arange(COUNT), one, other).tolist() == (has | has.T)[one, other].tolist()
    counts = read.count_by_cameras(np.arange(COUNT), camids)
    across = camids[:, None] != camids
    assert counts[0, 1:].sum() == (has & across)[camids == 0].sum() + (has & across)[:, camids == 0].sum()


@pytest.mark.usefixtures("rows_of_a_block")
def test_sightings_that_are_not_fitted_are_nobodys_neighbours() -> None:
    indices, scores, camids, times = drawn(9)
    kept = np.flatnonzero(np.arange(COUNT) % 3 > 0)
    read = Neighbours.check("neighbour", indices, scores, COUNT)
    used = np.ones(len(kept), dtype=bool)
    pairs, returns, nearest, _ = read.gather(kept, camids[kept], times[kept], used, Sample.of_all(camids[kept]))
    expected = sum(np.isin(indices[one], kept).sum() for one in kept)
    both_ways = sum(
        first in indices[second] and second in indices[first]
        for first, second in zip(kept[pairs.first], kept[pairs.second], strict=True)
    )
    assert len(pairs) + both_ways + len(returns.one) == expected
    for row, one in enumerate(kept):
        assert kept[nearest[row]] == next(other for other in indices[one] if other in kept)
    best = read.best_scores(kept)
    for row, one in enumerate(kept):
        found = scores[one, np.isin(indices[one], kept)][: neighbours.TIE_SCORES]
        assert best[row, : len(found)].tolist() == found.tolist() and not best[row, len(found) :].any()
