"""Rank a growing gallery roughly, by its logits with a few landmarks, to choose the sightings that are matched in full.

N images, Q queries, M landmarks, which are images of the gallery. A query's logit with an image is estimated as the sum
of the query's logits with the landmarks, each times a weight of the image. An image's weights are the ridge regression
of its own logits with the landmarks on the landmarks' logits with each other (Nystrom's method; Williams and Seeger,
NeurIPS 2000, with a ridge). They depend on the image and the landmarks alone, so that a gallery can grow and shrink.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.matcher import Matcher
from qaconv.runtime.quantise import Codes
from qaconv.runtime.vectors import Vectors, quantise_vectors

LANDMARKS = 256
RIDGE = 0.01  # of the mean eigenvalue; without it 256 landmarks rank worse than 64, as their logits are much alike


class Landmarks:
    """Weights of images, and what they are multiplied with.

    Args:
        matcher: matcher of whole maps.
        maps: codes of the landmarks, at least one.
        positions: of the landmarks in a vector, [M]; the other elements are 0. So vectors keep their meaning after a
            landmark was deleted. Default: 0, 1, ....
        mean: logit that weights are relative to. Default: the landmarks' mean logit.

    Attributes:
        mean: the logit that weights are relative to.
    """

    def __init__(
        self, matcher: Matcher, maps: Codes, positions: NDArray[np.int64] | None = None, mean: float | None = None
    ) -> None:
        self._matcher = matcher
        self._maps = maps
        self._positions = np.arange(len(maps.codes)) if positions is None else positions
        self._prepared = matcher.prepare(maps)
        known = matcher.table(self._prepared, maps).astype(np.float64)
        self.mean = float(known.mean()) if mean is None else mean
        known -= self.mean
        gram = known.T @ known
        gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
        self._solution = np.linalg.solve(gram, known.T).astype(np.float32)  # [M, M]

    def __len__(self) -> int:
        """Return M."""
        return len(self._positions)

    def weigh(self, images: Codes) -> Vectors:
        """Return the weights of images, vectors of LANDMARKS elements; each image is matched with all landmarks."""
        logits = self._matcher.table(self._prepared, images) - np.float32(self.mean)
        weights = np.zeros((logits.shape[1], LANDMARKS), dtype=np.float32)
        weights[:, self._positions] = logits.T @ self._solution.T
        return quantise_vectors(weights)

    def describe(self, queries: Any) -> NDArray[np.float32]:
        """Return what weights are multiplied with, [Q, LANDMARKS], for queries that the matcher prepared.

        The inner product with an image's weights is the estimated logit less the mean.
        """
        described = np.zeros((len(logits := self._matcher.table(queries, self._maps)), LANDMARKS), dtype=np.float32)
        described[:, self._positions] = logits - np.float32(self.mean)
        return described

    def without(self, positions: NDArray[np.int64]) -> "Landmarks | None":
        """Return the others, relative to the same mean; None where none is left."""
        kept = ~np.isin(self._positions, positions)
        if not kept.any():
            return None
        return Landmarks(self._matcher, self._maps.take(np.flatnonzero(kept)), self._positions[kept], self.mean)
