"""Scores and who was really seen where go in; they come out checked, and in blocks of pairs."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qaconv.data.manifest import JUNK

SameCamera = Literal["drop", "keep"]
BLOCK_PAIRS = 1 << 21  # looked at together: up to 128 MB with what is made of them


class PairScores(NamedTuple):
    """Scores of a block's pairs by what they are, each flat."""

    match: NDArray  # two images of one person
    other: NDArray  # of two people


class Sightings:
    """A table of scores [Q, G] with the people and the cameras of its rows and columns, as arrays.

    Raises:
        ValueError: shapes do not fit, or a score is not a number.
    """

    def __init__(
        self,
        scores: ArrayLike,
        query_pids: ArrayLike,
        gallery_pids: ArrayLike,
        query_camids: ArrayLike,
        gallery_camids: ArrayLike,
    ) -> None:
        self.scores = np.asarray(scores)
        self.query_pids, self.gallery_pids = np.asarray(query_pids), np.asarray(gallery_pids)
        self.query_camids, self.gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
        queries, galleries = len(self.query_pids), len(self.gallery_pids)
        fits = self.scores.shape == (queries, galleries)
        if not fits or len(self.query_camids) != queries or len(self.gallery_camids) != galleries:
            raise ValueError(
                f"scores have shape {self.scores.shape}, for {queries} query pids, {len(self.query_camids)} query "
                f"camids, {galleries} gallery pids and {len(self.gallery_camids)} gallery camids"
            )
        if wrong := sum(int((~np.isfinite(self.scores[rows])).sum()) for rows in self._blocks()):
            raise ValueError(f"{wrong} of {self.scores.size} scores are not finite numbers")

    def pairs(self, same_camera: SameCamera) -> Iterator[PairScores]:
        """Every pair of a query and a gallery image, without junk; a person's pairs on one camera by choice."""
        usable = self.gallery_pids != JUNK
        pids, camids = self.gallery_pids[usable], self.gallery_camids[usable]
        for rows in self._blocks():
            table = self.scores[rows][:, usable]
            match = self.query_pids[rows, None] == pids
            counts = match if same_camera == "keep" else match & (self.query_camids[rows, None] != camids)
            yield PairScores(table[counts], table[~match])

    def _blocks(self) -> Iterator[slice]:
        rows = max(1, BLOCK_PAIRS // max(1, len(self.gallery_pids)))
        return (slice(start, start + rows) for start in range(0, len(self.query_pids), rows))
