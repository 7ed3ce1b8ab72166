"""Define the kinds of `evaluate.rerank`: how the gallery is ranked again by the neighbours of its images.

Q queries, G gallery images, N = Q + G.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from qaconv.config.kinds import RerankSettings
from qaconv.matching.rerank import Distances, Neighbourhoods, k_reciprocal_sparse
from qaconv.tables import Table, convert


class KReciprocal(RerankSettings):
    """k-reciprocal encoding (Zhong et al., CVPR 2017).

    Example:
        >>> import numpy as np
        >>> nearest = Neighbourhoods(np.array([[0, 1], [1, 0]]), np.array([[0, 0.5], [0, 0.5]]), np.array([0.5, 0.5]))
        >>> scores = KReciprocal(k1=1, k2=1).rerank(np.array([[0.5]], np.float32), nearest, lambda rows, columns: rows)
        >>> scores[:].round(2)
        array([[0.26]], dtype=float32)
    """

    key: ClassVar[str] = "reranked"
    label: ClassVar[str] = "re-ranked"

    kind: Literal["k_reciprocal"] = "k_reciprocal"
    k1: PositiveInt = 20  # nearest images among which two images must have each other
    k2: PositiveInt = 6  # nearest images whose encodings are averaged
    lambda_value: Annotated[float, Field(ge=0, le=1)] = 0.3  # share of the original distance

    def rerank(self, distances: Table, nearest: Neighbourhoods, distances_of: Distances) -> Table:
        """Return scores [Q, G] in 0..1; higher is a better match.

        Args:
            distances: of queries and gallery images, [Q, G].
            nearest: neighbourhoods of all N images.
            distances_of: function that returns the distances of further pairs.
        """
        reranked = k_reciprocal_sparse(
            distances, nearest, distances_of, k1=self.k1, k2=self.k2, lambda_value=self.lambda_value
        )
        return convert(reranked, lambda rows: 1 - rows, distances.dtype)
