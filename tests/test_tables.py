from pathlib import Path

import numpy as np
import pytest

from qaconv import tables
from qaconv.tables import as_table, best_columns, choose, convert, open_table, row_blocks, save_table, take

SCORES = np.random.default_rng(0).integers(0, 5, (7, 9)).astype(np.float32)
ROWS = np.arange(7) % 3 > 0
COLUMNS = np.arange(9) % 4 > 0


@pytest.mark.parametrize("in_block", [1, 20, 1000])
def test_a_saved_table_comes_back_whole_by_slice_and_by_index(
    in_block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK_SCORES", in_block)
    save_table(tmp_path / "scores.npy", choose(SCORES, ROWS, COLUMNS))
    opened = open_table(tmp_path / "scores.npy")
    expected = SCORES[np.ix_(ROWS, COLUMNS)]
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), expected)
    np.testing.assert_array_equal(opened[1:3], expected[1:3])
    np.testing.assert_array_equal(opened[np.array([3, 0, 3])], expected[[3, 0, 3]])
    assert opened.dtype == np.float32 and opened.shape == expected.shape


def test_blocks_of_rows_cover_a_table_once_and_hold_no_more_scores_than_asked_for() -> None:
    blocks = list(row_blocks((7, 9), 20))
    assert np.concatenate([np.arange(7)[rows] for rows in blocks]).tolist() == list(range(7))
    assert [rows.stop - rows.start for rows in blocks] == [2, 2, 2, 1]
    assert len(list(row_blocks((7, 9), 1))) == 7


def test_single_scores_are_those_of_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_SCORES", 20)
    rows, columns = np.array([6, 0, 6, 3]), np.array([1, 8, 1, 2])
    np.testing.assert_array_equal(take(convert(SCORES, np.negative, np.float32), rows, columns), -SCORES[rows, columns])


@pytest.mark.parametrize("count", [1, 4, 9, 20])
def test_the_best_columns_are_the_first_of_a_stable_sort(count: int) -> None:
    for row in SCORES:
        assert best_columns(row, count).tolist() == np.argsort(-row, kind="stable")[:count].tolist()


def test_lists_are_tables() -> None:
    assert as_table([[1, 2]]).shape == (1, 2)
