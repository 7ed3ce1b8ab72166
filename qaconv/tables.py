"""Read tables of scores some rows at a time: arrays, tables that lie in a file, and tables that are computed.

Q queries, G gallery images. A table of 100,000 x 900,000 scores does not fit into memory; a block of its rows does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from qaconv.files import replacing_file

BLOCK_SCORES = 1 << 23  # in a block of rows: 64 MB of float64

Rows = slice | NDArray[np.integer]


class Table(Protocol):
    """A table [Q, G] of numbers; an array is one, too."""

    @property
    def shape(self) -> Any:
        """Return (Q, G)."""

    @property
    def dtype(self) -> Any:
        """Return the type of a number."""

    def __len__(self) -> int:
        """Return Q."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Return some rows, given as a slice or as indices."""


@dataclass(frozen=True)
class ComputedTable:
    """A table whose rows are computed, or read from files, when they are asked for.

    Attributes:
        shape: (Q, G).
        dtype: type of a number.
        read: function of a slice or of indices of rows that returns these rows.
    """

    shape: tuple[int, int]
    dtype: Any
    read: Callable[[Rows], NDArray[Any]]

    def __len__(self) -> int:
        """Return Q."""
        return self.shape[0]

    def __getitem__(self, rows: Rows, /) -> NDArray[Any]:
        """Return some rows."""
        return self.read(rows)


def as_table(scores: "ArrayLike | Table") -> Table:
    """Return a table as it is, and lists of numbers as an array."""
    return scores if isinstance(scores, ComputedTable) else np.asarray(scores)


def convert(table: Table, function: Callable[[NDArray[Any]], NDArray[Any]], dtype: Any) -> Table:
    """Return a table whose numbers are a function of those of another."""
    return ComputedTable((table.shape[0], table.shape[1]), np.dtype(dtype), lambda rows: function(table[rows]))


def as_scores(logits: Table) -> Table:
    """Return sigmoid(logit), [Q, G]."""
    return convert(logits, lambda rows: expit(rows.astype(np.float64)), np.float64)


def choose(table: Table, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> Table:
    """Return some rows and columns of a table, given as masks [Q] and [G]."""
    if rows.all() and columns.all():
        return table
    numbers = np.flatnonzero(rows)
    shape = (len(numbers), int(columns.sum()))
    return ComputedTable(shape, table.dtype, lambda chosen: table[numbers[chosen]][:, columns])


def row_blocks(shape: tuple[int, int], scores: int | None = None) -> Iterator[slice]:
    """Yield the rows of a table in blocks.

    Args:
        shape: (Q, G).
        scores: in a block, at most, unless a row has more. Default: BLOCK_SCORES.
    """
    queries, gallery = shape
    size = max(1, (BLOCK_SCORES if scores is None else scores) // max(1, gallery))
    for start in range(0, queries, size):
        yield slice(start, min(start + size, queries))


def take(table: Table, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Return single numbers of a table, [n], given as rows and columns [n]; its rows are read in blocks."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    numbers = np.empty(len(rows), dtype=table.dtype)
    for block in row_blocks(table.shape):
        first, last = np.searchsorted(ordered, (block.start, block.stop))
        chosen = order[first:last]
        if len(chosen):
            numbers[chosen] = table[block][rows[chosen] - block.start, columns[chosen]]
    return numbers


def best_columns(scores: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return the columns of the best scores of one row [G], best first; of equal ones the first column comes first."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    columns = np.flatnonzero(scores >= least)
    return columns[np.argsort(-scores[columns], kind="stable")[:count]]


def save_table(path: Path, table: Table) -> None:
    """Write a new .npy file, a block of rows after another."""
    with replacing_file(path) as unfinished, unfinished.open("wb") as file:
        header = {"descr": np.dtype(table.dtype).str, "fortran_order": False, "shape": tuple(table.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for rows in row_blocks(table.shape):
            np.ascontiguousarray(table[rows], dtype=table.dtype).tofile(file)


def open_table(path: Path) -> Table:
    """Open a .npy file as a table; the rows that are asked for are read, and nothing stays mapped."""
    mapped = np.load(path, mmap_mode="r")
    return ComputedTable(mapped.shape, mapped.dtype, lambda rows: np.array(np.load(path, mmap_mode="r")[rows]))
