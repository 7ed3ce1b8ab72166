"""Read the neighbours of the sightings that a profile is fitted on, a block of rows at a time.

N sightings of the caller, of which n are fitted; k neighbours of each, b sightings of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.tables import Table, as_table, row_blocks
from qaconv.tlift.fit_inputs import check_range, check_scores, whole_numbers
from qaconv.tlift.pairs import Pairs, Returns, best_on_camera, join_pairs
from qaconv.tlift.sampling import Sample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK_NEIGHBOURS = 1 << 20  # that are read at a time
TIE_SCORES = 8  # best scores of a sighting, by which those of one camera and time are ordered
LIKENESS_S = 40.0  # between two sightings on one camera whose score is kept: corrected clocks may bring them nearer


class Block(NamedTuple):
    """Neighbours of some sightings, all numbered as in the fit.

    Attributes:
        one: the sightings, [b].
        other: their neighbours, best first, [b, k]; -1 where one is not fitted.
        score: [b, k].
    """

    one: Ints
    other: Ints
    score: Floats


class Gathered(NamedTuple):
    """What a fit reads of the neighbours.

    Attributes:
        pairs: on two cameras.
        returns: on one camera.
        nearest: nearest neighbour of each sighting, itself where it has none, [n].
        lowest: lowest score of each sighting's neighbours, inf where it has none, [n].
    """

    pairs: Pairs
    returns: Returns
    nearest: Ints
    lowest: Floats


@dataclass(frozen=True)
class Neighbours:
    """Neighbours and their scores, as the caller gives them.

    Attributes:
        name: of the arguments, for messages.
        indices: numbers of the caller's sightings, best first, [N, k].
        scores: in [0, 1], [N, k].
    """

    name: str
    indices: Table
    scores: Table

    @classmethod
    def check(cls, name: str, indices: ArrayLike | Table, scores: ArrayLike | Table, sightings: int) -> "Neighbours":
        """Check shapes; numbers are checked when they are read.

        Raises:
            ValueError: shapes do not fit.
        """
        index, score = as_table(indices), as_table(scores)
        if len(index.shape) != 2 or index.shape != score.shape or index.shape[0] != sightings:
            raise ValueError(
                f"{name}_indices and {name}_scores must have the same shape [{sightings}, k], as there are {sightings} "
                f"camids, got {index.shape} and {score.shape}"
            )
        return cls(name, index, score)

    def __len__(self) -> int:
        """Return the number of neighbours of all sightings."""
        return int(self.indices.shape[0] * self.indices.shape[1])

    def blocks(self, position: Ints) -> Iterator[Block]:
        """Yield the neighbours of the sightings that are fitted.

        Args:
            position: number in the fit of each of the caller's sightings, -1 where it is not fitted, [N].

        Raises:
            ValueError: an index is not that of a sighting, or a score is not in [0, 1].
        """
        for rows in row_blocks(self.indices.shape, BLOCK_NEIGHBOURS):
            indices = whole_numbers(f"{self.name}_indices", self.indices[rows])
            scores = np.asarray(self.scores[rows], dtype=np.float64)
            check_scores(f"{self.name}_scores", scores)
            check_range(f"{self.name}_indices", indices, len(position))
            one = position[rows]
            fitted = one >= 0
            yield Block(one[fitted], position[indices[fitted]], scores[fitted])

    def best_scores(self, kept: Ints) -> Floats:
        """Return the best scores of each kept sighting with others that are kept, 0 where it has fewer, [n, 8].

        Args:
            kept: positions of the kept sightings among the caller's, ascending, [n].
        """
        width = min(TIE_SCORES, self.indices.shape[1])
        best = np.zeros((len(kept), width))
        for one, other, score in self.blocks(_positions(kept, self.indices.shape[0])):
            missing = other < 0
            order = np.argsort(missing, axis=1, kind="stable")[:, :width]
            best[one] = np.where(np.take_along_axis(missing, order, 1), 0.0, np.take_along_axis(score, order, 1))
        return best

    def count_by_cameras(self, numbers: Ints, camids: Ints) -> Ints:
        """Return the number of neighbours on each two cameras of those that are fitted, [C, C], symmetric.

        Args:
            numbers: of the fitted sightings among the caller's, [n].
            camids: of the fitted sightings, [n].
        """
        cameras, camera = np.unique(camids, return_inverse=True)
        counts = np.zeros(len(cameras) ** 2, dtype=np.int64)
        for one, other, _ in self.blocks(_positions(numbers, self.indices.shape[0])):
            row, column = np.nonzero(other >= 0)
            cells = camera[one[row]] * len(cameras) + camera[other[row, column]]
            counts += np.bincount(cells, minlength=len(counts))
        table = counts.reshape(len(cameras), len(cameras))
        return table + table.T

    def among(self, numbers: Ints, one: Ints, other: Ints) -> Bools:
        """Return whether either sighting of a pair is among the neighbours of the other one, [S].

        Args:
            numbers: of the fitted sightings among the caller's, [n].
            one: fitted sightings, [S].
            other: fitted sightings, [S].
        """
        found = np.zeros(len(one), dtype=bool)
        row = np.full(len(numbers), -1)
        for block in self.blocks(_positions(numbers, self.indices.shape[0])):
            row[block.one] = np.arange(len(block.one))
            for these, those in ((one, other), (other, one)):
                inside = np.flatnonzero(row[these] >= 0)
                for part in np.array_split(inside, 1 + inside.size * self.indices.shape[1] // BLOCK_NEIGHBOURS):
                    found[part] |= (block.other[row[these[part]]] == those[part, None]).any(axis=1)
            row[block.one] = -1
        return found

    def gather(self, numbers: Ints, camids: Ints, times: Floats, used: Bools, sample: Sample) -> Gathered:
        """Gather the pairs of sightings that the fit reads.

        Args:
            numbers: of the fitted sightings among the caller's, in the order of the fit, [n].
            camids: of the fitted sightings, [n].
            times: [n] seconds.
            used: whether a sighting's time is used, [n].
            sample: which pairs are read.
        """
        across: list[tuple[Ints, Ints, Floats, Bools]] = []
        returns: list[tuple[Ints, Ints, Floats]] = []
        nearest, lowest = np.arange(len(numbers)), np.full(len(numbers), np.inf)
        for one, other, score in self.blocks(_positions(numbers, self.indices.shape[0])):
            row, column = np.nonzero((other >= 0) & (other != one[:, None]))
            ends = one[row], other[row, column]
            scores = score[row, column]
            nearest[ends[0][::-1]] = ends[1][::-1]  # of several the last one that is written stays: the first column
            np.minimum.at(lowest, ends[0], scores)
            is_return = camids[ends[0]] == camids[ends[1]]
            both_used = used[ends[0]] & used[ends[1]]
            close = both_used & (np.abs(times[ends[1]] - times[ends[0]]) < LIKENESS_S)
            chosen = is_return & (sample.anchors[ends[0]] | close)
            returns.append((ends[0][chosen], ends[1][chosen], scores[chosen]))
            chosen = np.flatnonzero(~is_return)
            best = best_on_camera(ends[0][chosen], ends[1][chosen], scores[chosen], camids)
            read = both_used[chosen] & sample.reads(ends[0][chosen], ends[1][chosen])
            chosen = chosen[read]
            across.append((ends[0][chosen], ends[1][chosen], scores[chosen], best[read]))
        ones, others, scores, bests = map(np.concatenate, zip(*across, strict=True))
        across.clear()
        pairs = join_pairs(ones, others, scores, bests, camids)
        ones, others, scores = map(np.concatenate, zip(*returns, strict=True))
        order = np.argsort(ones, kind="stable")
        return Gathered(pairs, Returns(ones[order], others[order], scores[order]), nearest, lowest)


def _positions(numbers: Ints, count: int) -> Ints:
    """Return the position of each of `count` sightings among some of them, -1 where it is none of them, [N]."""
    position = np.full(count, -1)
    position[numbers] = np.arange(len(numbers))
    return position
