"""Estimate the logits of a query with a whole gallery from those with a few images of it, the landmarks.

Q queries, G gallery images, M landmarks, T teachers. An image's logit with a query is taken to be a sum of the query's
logits with the landmarks, each times a weight of the image. The weights are least squares over the teachers: images of
the gallery that are matched with all of it. So a query is matched M times, and a matrix product does the rest. With no
teachers but the landmarks this is Nystrom's method (Williams and Seeger, NeurIPS 2000); with four times as many
teachers, half the landmarks rank as well.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.matcher import Matcher
from qaconv.runtime.quantise import Block

LANDMARKS = 256
TEACHERS = 4 * LANDMARKS


class Landmarks:
    """Estimate logits with a gallery that may grow: the caller keeps one row of weights for each of its images.

    Args:
        matcher: matcher of whole maps.
        teachers: maps or codes of T images of the gallery in random order. The first quarter of them, at least one, are
            the landmarks.
    """

    def __init__(self, matcher: Matcher, teachers: Block) -> None:
        images = teachers.codes if not isinstance(teachers, np.ndarray) else teachers
        first = slice(0, max(1, len(images) * LANDMARKS // TEACHERS))
        self._matcher = matcher
        self._landmarks = teachers[first] if isinstance(teachers, np.ndarray) else teachers.take(first)
        self._teachers = matcher.prepare(teachers)
        known = matcher.table(self._teachers, self._landmarks)
        self._mean = known.mean(dtype=np.float64).astype(np.float32)
        tolerance = max(known.shape) * float(np.finfo(np.float32).eps)
        self._solution = np.linalg.pinv(known - self._mean, rcond=tolerance)  # [M, T]

    def __len__(self) -> int:
        """Return M, the length of an image's row of weights."""
        return len(self._solution)

    def weights(self, images: Block) -> NDArray[np.float32]:
        """Return the weights [n, M] of n gallery images, which are matched with all teachers."""
        logits = self._matcher.table(self._teachers, images)
        weights: NDArray[np.float32] = (logits - self._mean).T @ self._solution.T
        return weights

    def estimate(self, prepared: Any, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimate logits [Q, G] of queries that the matcher prepared.

        Args:
            prepared: what `prepare` of the matcher returned.
            weights: of the gallery images, [G, M].
        """
        known = self._matcher.table(prepared, self._landmarks)
        estimates: NDArray[np.float32] = (known - self._mean) @ weights.T
        estimates += self._mean
        return estimates
