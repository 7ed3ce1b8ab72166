"""Rank a growing gallery roughly, by row averages, to choose the sightings that are matched in full.

N images, S = h*w locations, C channels. A map is averaged over its width to h unit vectors, which are matched as QAConv
matches locations. A sighting's averages depend on no other sighting, so that a gallery can grow and shrink without a
fit. The landmarks of `matching/landmarks.py` are fitted to a fixed gallery; docs/serving.md compares the two.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.matcher import cpu_matcher


def average_rows(maps: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Average maps [N, S, C] over their width to unit vectors [N, h, C]; a row that averages to zero stays zero."""
    images, locations, channels = maps.shape
    # A product sums an axis this short several times as fast as sum().
    ones = np.ones(width, dtype=np.float32)
    rows = ones @ maps.astype(np.float32, copy=False).reshape(images, locations // width, width, channels)
    averages: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    return averages


class RowScorer:
    """Score row averages with one head: the weights of a row's locations are added up.

    Args:
        head: of the full matching, with `map_shape`.
        threads: of one call. Default: one for each core.
    """

    def __init__(self, head: Head, threads: int | None = None) -> None:
        assert head.map_shape is not None
        _, height, self.width = head.map_shape
        query, gallery = (weights.reshape(height, -1).sum(axis=1) for weights in (head.query, head.gallery))
        self._matcher = cpu_matcher(Head(query, gallery, 0.0), threads)

    def score(self, query_maps: NDArray[np.float32], gallery_rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score maps [n, S, C] against row averages [N, h, C]; return scores [n, N] that sort nearly as logits do."""
        return self._matcher.table(self._matcher.prepare(average_rows(query_maps, self.width)), gallery_rows)
