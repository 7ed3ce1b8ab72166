"""Queries' logits with a few images of a gallery go in; estimates of their logits with all of it come out.

Q queries, G gallery images, M landmarks, T teachers. An image's logit with a query is taken to be a sum of the query's
logits with the landmarks, each times a weight of the image's own: the least squares over the teachers, images of the
gallery that are matched with all of it beforehand. So a query is matched M times, and a matrix product does the rest.
With no teachers but the landmarks this is Nystrom's method (Williams and Seeger, NeurIPS 2000); with four times as many
teachers, half the landmarks rank as well.
"""

from typing import Any

import torch
from torch import Tensor

from qaconv.matching.quantise import Codes
from qaconv.matching.tiles import Matcher, blocks
from qaconv.progress import track

LANDMARKS = 256
TEACHERS = 4 * LANDMARKS
AT_ONCE = 1024  # gallery images


class Landmarks:
    """Estimates logits with one gallery, of which it keeps a float32 for each landmark and image.

    Args:
        matcher: matches in full.
        gallery: codes [G, S, C].
        teachers: images of it, int64 [T] in random order; the first quarter of them, at least one, are the landmarks.
        progress: show a bar.
    """

    def __init__(self, matcher: Matcher, gallery: Codes, teachers: Tensor, progress: bool) -> None:
        self._matcher = matcher
        self._landmarks = gallery.take(teachers[: max(1, len(teachers) * LANDMARKS // TEACHERS)])
        prepared = matcher.prepare(gallery.take(teachers))
        known = matcher.table(prepared, self._landmarks)
        self._mean = known.mean()
        solution = torch.linalg.pinv(known - self._mean)  # [M, T]
        parts = list(blocks(len(gallery.codes), AT_ONCE))
        self._weights = torch.empty(len(solution), len(gallery.codes))  # [M, G]
        for images in track(parts, "match the teachers", disable=not progress):
            wanted = matcher.table(prepared, gallery.take(images))
            self._weights[:, images] = solution @ (wanted - self._mean)

    def estimate(self, prepared: Any) -> Tensor:
        """Logits [Q, G] of queries that the matcher prepared."""
        known = self._matcher.table(prepared, self._landmarks)
        return torch.addmm(self._mean, known - self._mean, self._weights)
