"""Match all sightings of a target with each other, a pair of blocks after another.

N sightings: Q queries, then a gallery of G. Results are about the measured ones: no junk, for example.

Each pair of blocks leaves its files when it is finished: the logits of its queries with its gallery images, and the
nearest images of each of its sightings in the other block. So a killed match continues with the next pair, and several
processes can share the pairs (`qaconv/matching/ray_blocks.py` spreads them over a cluster). Neither who matched a pair
nor when changes a result.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from qaconv.files import replacing_file
from qaconv.matching.rerank import NeighbourhoodFinder, Neighbourhoods
from qaconv.matching.results import MEASURED, NEAR, NEIGHBOURS, Grid, as_distances, save_matches
from qaconv.matching.store import MapStore
from qaconv.matching.tiles import Engine, block_tiles
from qaconv.models.head import QAConv

LEAST_BLOCKS = 16  # as a pair within one block is matched both ways: 17/32 of all ordered pairs are computed
BLOCK_SIGHTINGS = 8192  # at most: a tile of logits has 256 MB
BLOCK_BYTES = 512 << 20  # of the float32 maps of a block, at most
ROWS, COLUMNS = "rows.", "columns."  # before the names of arrays of a pair's first block, and of its second


Pair = tuple[int, int]  # numbers of two blocks


class PairResult(NamedTuple):
    """What matching two blocks gives."""

    across: NDArray[np.float32]  # logits of the first block's queries with the second's gallery images
    nearest: dict[str, NDArray[Any]]  # arrays of `Neighbourhoods`: of the first block in the second, and the reverse


@dataclass(frozen=True)
class Job:
    """What is matched.

    Attributes:
        store: maps of all sightings, queries first.
        head: the network's head.
        is_measured: whether results are about a sighting, [N].
        engine: "exact" or "int8", as in `logit_tiles`.
        grid: blocks of the sightings.
    """

    store: MapStore
    head: QAConv
    is_measured: NDArray[np.bool_]
    engine: Engine
    grid: Grid

    @classmethod
    def plan(cls, store: MapStore, head: QAConv, queries: int, is_measured: NDArray[np.bool_], engine: Engine) -> "Job":
        """Divide the sightings into blocks.

        Args:
            store: maps of all sightings, queries first.
            head: the network's head.
            queries: number of queries, Q.
            is_measured: whether results are about a sighting, [N].
            engine: "exact" or "int8".
        """
        count = len(store)
        at_most = min(BLOCK_SIGHTINGS, BLOCK_BYTES // (4 * math.prod(store.shape[1:])))
        size = max(1, min(at_most, -(-count // LEAST_BLOCKS)))
        return cls(store, head, is_measured, engine, Grid(queries, count, size))

    @property
    def name(self) -> str:
        """Return a name that jobs of other images, maps, engines or blocks do not have."""
        facts = (self.store.model, self.engine, self.grid, *self.store.ids)
        return sha256("\n".join(map(str, facts)).encode() + self.is_measured.tobytes()).hexdigest()[:16]

    @property
    def is_symmetric(self) -> bool:
        """Return whether a pair of blocks is matched once for both."""
        return self.head.folded().symmetric

    def measured(self, block: slice) -> slice:
        """Return the numbers of a block's measured sightings among all measured ones."""
        first = int(self.is_measured[: block.start].sum())
        return slice(first, first + int(self.is_measured[block].sum()))


def open_pairs(job: Job, folder: Path) -> list[Pair]:
    """Return the pairs of blocks whose files are not in a folder yet, the pairs of one first block after another."""
    count = len(job.grid.blocks)
    pairs = ((row, column) for row in range(count) for column in range(row if job.is_symmetric else 0, count))
    return [pair for pair in pairs if not _pair_path(folder, pair).exists()]


def match_blocks(
    job: Job, folder: Path, device: torch.device, leave_out: Callable[[Pair], bool] = lambda pair: False
) -> None:
    """Match the pairs of blocks whose files are not in a folder yet, and write them there.

    Args:
        job: what is matched.
        folder: of this job alone.
        device: device to match on.
        leave_out: function of a pair that says whether it is left to others. Default: all pairs are matched.
    """
    grid, maps = job.grid, job.store
    folder.mkdir(parents=True, exist_ok=True)

    def is_left_out(rows: slice, columns: slice) -> bool:
        pair = grid.pair(rows, columns)
        return leave_out(pair) or _pair_path(folder, pair).exists()

    tiles = block_tiles(
        maps, maps, job.head, grid.size, engine=job.engine, device=device, progress=True, leave_out=is_left_out
    )
    for rows, columns, logits in tiles:
        save_pair(job, folder, grid.pair(rows, columns), read_logits(job, rows, columns, logits))


def read_logits(job: Job, rows: slice, columns: slice, logits: NDArray[np.float32]) -> PairResult:
    """Return what the files of a pair of blocks hold.

    Args:
        job: what is matched.
        rows: its first block.
        columns: its second block.
        logits: of the two, [rows, columns].
    """
    across = logits[: max(0, job.grid.queries - rows.start), max(0, job.grid.queries - columns.start) :]
    distances = as_distances(logits)
    arrays = _nearest(ROWS, job, rows, columns, distances)
    if job.is_symmetric and rows != columns:
        arrays |= _nearest(COLUMNS, job, columns, rows, distances.T)
    return PairResult(across, arrays)


def save_pair(job: Job, folder: Path, pair: Pair, result: PairResult) -> None:
    """Write the files of a pair of blocks; the last one makes it finished."""
    if result.across.size:
        with replacing_file(job.grid.tile(folder, pair)) as unfinished, unfinished.open("wb") as file:
            np.save(file, result.across)
    with replacing_file(_pair_path(folder, pair)) as unfinished:
        save_file(result.nearest, unfinished)


def join_blocks(job: Job, folder: Path, output: Path) -> None:
    """Join the files of all pairs of blocks to the matches of all sightings.

    Args:
        job: what was matched.
        folder: with the files of all pairs.
        output: new folder.
    """
    output.mkdir(parents=True)
    for path in folder.glob("*.npy"):  # they stay, so that a join that is killed loses nothing
        try:
            os.link(path, output / path.name)
        except OSError:  # of another file system
            shutil.copyfile(path, output / path.name)
    arrays = _join("", job, folder)
    if not job.is_measured.all():
        arrays |= _join(MEASURED, job, folder)
    save_matches(output, arrays, job.grid, job.store.model)


def _nearest(side: str, job: Job, rows: slice, columns: slice, distances: NDArray[np.float32]) -> dict[str, Any]:
    """Return the nearest of each of `rows` among `columns`: of all, and of the measured where some are not.

    Args:
        side: before the names of the arrays.
        job: what is matched.
        rows: a block.
        columns: a block.
        distances: of the two, [rows, columns]. Those of a sighting to itself become 0.
    """
    arrays = _find(side, len(job.is_measured), rows, columns, distances)
    if not job.is_measured.all():
        kept = distances[job.is_measured[rows]][:, job.is_measured[columns]]
        measured = int(job.is_measured.sum())
        arrays |= _find(side + MEASURED, measured, job.measured(rows), job.measured(columns), kept)
    return arrays


def _find(prefix: str, count: int, rows: slice, columns: slice, distances: NDArray[np.float32]) -> dict[str, Any]:
    finder = NeighbourhoodFinder(count, NEIGHBOURS + 1, rows, np.float32)
    finder.add(rows, columns, distances)
    near = vars(finder.neighbourhoods())
    return {prefix + name: np.ascontiguousarray(array) for name, array in near.items()}


def _join(prefix: str, job: Job, folder: Path) -> dict[str, NDArray[Any]]:
    """Return the neighbourhoods of all sightings, or with MEASURED of the measured ones."""
    blocks = job.grid.blocks
    numbers = [job.measured(block) if prefix else block for block in blocks]
    count = numbers[-1].stop
    width = min(NEIGHBOURS + 1, count)
    joined = Neighbourhoods(
        np.empty((count, width), np.int32), np.empty((count, width), np.float32), np.empty(count, np.float32)
    )
    for row, rows in enumerate(numbers):
        finder = NeighbourhoodFinder(count, NEIGHBOURS + 1, rows, np.float32)
        for near in _of_block(prefix, job, folder, row):
            finder.join(near)
        for name, array in vars(finder.neighbourhoods()).items():
            getattr(joined, name)[rows] = array
    return {prefix + name: array for name, array in vars(joined).items()}


def _of_block(prefix: str, job: Job, folder: Path, row: int) -> Iterator[Neighbourhoods]:
    """Yield what the files of a block's pairs have found for it."""
    for column in range(len(job.grid.blocks)):
        is_second = job.is_symmetric and column < row
        with safe_open(_pair_path(folder, (column, row) if is_second else (row, column)), "numpy") as file:
            side = (COLUMNS if is_second else ROWS) + prefix
            yield Neighbourhoods(*(file.get_tensor(side + name) for name in NEAR))


def _pair_path(folder: Path, pair: Pair) -> Path:
    return folder / f"{pair[0]}-{pair[1]}.safetensors"
