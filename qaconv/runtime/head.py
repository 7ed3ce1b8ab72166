"""The QAConv head in eval mode as one affine map of numbers.

S locations of a map, C channels, H x W map size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Head:
    """Both norms and the weights folded: logit = query . cosines of the query + gallery . cosines of the other + bias.

    A location's cosine is the largest that it has with any location of the other map.

    Attributes:
        query: weights of the query's locations, [S].
        gallery: weights of the gallery image's locations, [S].
        bias: constant added to every logit.
        average: cosine of an average location, which moves a logit neither up nor down. Default: 0.
        map_shape: (C, H, W) of the maps. Default: None, any shape of S locations.
    """

    query: NDArray[np.float32]
    gallery: NDArray[np.float32]
    bias: float
    average: float = 0.0
    map_shape: tuple[int, int, int] | None = None

    @property
    def symmetric(self) -> bool:
        """Whether a pair has the same logit whichever of its images is the query."""
        return np.array_equal(self.query, self.gallery)

    def folded(self) -> "Head":
        """Return itself; a `QAConv` in torch folds itself into a `Head` by the same call."""
        return self
