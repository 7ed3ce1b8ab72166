"""Check a table of scores with its people and cameras, and iterate over its pairs.

Q queries, G gallery images.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.data.manifest import JUNK, UNLABELLED
from qaconv.tables import Table, as_table, row_blocks

SameCamera = Literal["drop", "keep"]
BLOCK_PAIRS = 1 << 21  # processed at a time: up to 128 MB with temporary arrays


class PairScores(NamedTuple):
    """Scores of a block of pairs, flat."""

    match: NDArray[Any]  # of one person
    other: NDArray[Any]  # of two people


class Sightings:
    """A table of scores with the people and cameras of its rows and columns.

    Args:
        scores: [Q, G]; rows are read in blocks.
        query_pids: [Q].
        gallery_pids: [G].
        query_camids: [Q].
        gallery_camids: [G].

    Raises:
        ValueError: shapes do not fit, scores are not real numbers, or an id is NaN.
    """

    def __init__(
        self,
        scores: ArrayLike | Table,
        query_pids: ArrayLike,
        gallery_pids: ArrayLike,
        query_camids: ArrayLike,
        gallery_camids: ArrayLike,
    ) -> None:
        self.scores = as_table(scores)
        if self.scores.dtype.kind not in "fiub":
            raise ValueError(f"scores must be real numbers, got {self.scores.dtype}")
        self.query_pids = _ids("query_pids", query_pids)
        self.gallery_pids = _ids("gallery_pids", gallery_pids)
        self.query_camids = _ids("query_camids", query_camids)
        self.gallery_camids = _ids("gallery_camids", gallery_camids)
        queries, galleries = len(self.query_pids), len(self.gallery_pids)
        fits = self.scores.shape == (queries, galleries)
        if not fits or len(self.query_camids) != queries or len(self.gallery_camids) != galleries:
            raise ValueError(
                f"scores must have shape {(queries, galleries)} for {queries} query pids and {galleries} gallery pids, "
                f"got scores of shape {self.scores.shape}, {len(self.query_camids)} query camids and "
                f"{len(self.gallery_camids)} gallery camids"
            )

    def blocks(self, scores: int | None = None) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the rows of the table in blocks, with their numbers.

        Args:
            scores: as in `row_blocks`.

        Raises:
            ValueError: a score is not a finite number.
        """
        for rows in row_blocks(self.scores.shape, scores):
            block = self.scores[rows]
            if not np.isfinite(block).all():
                wrong = sum(int((~np.isfinite(self.scores[rows])).sum()) for rows in row_blocks(self.scores.shape))
                size = len(self.query_pids) * len(self.gallery_pids)
                raise ValueError(f"scores must be finite numbers, got {wrong} of {size} that are not")
            yield rows, block

    def pairs(self, same_camera: SameCamera) -> Iterator[PairScores]:
        """Yield blocks of all pairs of a query and a gallery image whose people are known.

        Args:
            same_camera: whether to "drop" or "keep" pairs of one person on one camera.

        Raises:
            ValueError: a score is not a finite number.
        """
        usable = is_known(self.gallery_pids)
        pids, camids = self.gallery_pids[usable], self.gallery_camids[usable]
        for rows, block in self.blocks(BLOCK_PAIRS):
            table = block[:, usable]
            match = self.query_pids[rows, None] == pids
            counts = match if same_camera == "keep" else match & (self.query_camids[rows, None] != camids)
            yield PairScores(table[counts], table[~match & (self.query_pids[rows, None] != UNLABELLED)])


def is_known(pids: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which pids name a person: not those of junk and of unlabelled sightings."""
    known: NDArray[np.bool_] = (pids != JUNK) & (pids != UNLABELLED)
    return known


def _ids(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return a list of people or cameras as an array [N]."""
    ids = np.asarray(values)
    if ids.ndim != 1:
        raise ValueError(f"{name} must be a list with an id for each image, got shape {ids.shape}")
    if unknown := int(np.count_nonzero(ids != ids)) if ids.dtype.kind in "fO" else 0:
        raise ValueError(f"{name} must be known, got {unknown} of {len(ids)} that are NaN")
    return ids


def check_choice(name: str, value: str, choices: Any) -> None:
    """Check an argument that is one of the words of a Literal.

    Raises:
        ValueError: it is none of them.
    """
    if value not in get_args(choices):
        raise ValueError(f"unknown {name} {value!r}, allowed: {', '.join(get_args(choices))}")
