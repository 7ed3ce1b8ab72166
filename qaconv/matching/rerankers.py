"""Define the kinds of `evaluate.rerank`: how the gallery is ranked again by the neighbours of its images.

Q queries, G gallery images, N = Q + G.
"""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from qaconv.matching.rerank import Distances, Neighbourhoods, k_reciprocal_sparse


class KReciprocal(BaseModel):
    """k-reciprocal encoding (Zhong et al., CVPR 2017).

    Another kind has the same attributes `kind`, `key` and `label` and the same method `rerank`.

    Example:
        >>> import numpy as np
        >>> nearest = Neighbourhoods(np.array([[0, 1], [1, 0]]), np.array([[0, 0.5], [0, 0.5]]), np.array([0.5, 0.5]))
        >>> KReciprocal(k1=1, k2=1).rerank(np.array([[0.5]], np.float32), nearest, lambda rows, columns: rows).round(2)
        array([[0.26]], dtype=float32)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: ClassVar[str] = "reranked"  # of its ranking in metrics files, plots and MLflow
    label: ClassVar[str] = "re-ranked"  # of its ranking on pages

    kind: Literal["k_reciprocal"] = "k_reciprocal"
    k1: PositiveInt = 20  # neighbours that must name each other
    k2: PositiveInt = 6  # nearest images whose encodings are averaged
    lambda_value: Annotated[float, Field(ge=0, le=1)] = 0.3  # share of the original distance

    def rerank(
        self, distances: NDArray[np.float32], nearest: Neighbourhoods, distances_of: Distances
    ) -> NDArray[np.float32]:
        """Return scores [Q, G]; higher is a better match.

        Args:
            distances: [Q, G] in [0, 1].
            nearest: neighbours of each of the N images.
            distances_of: distances [n] of n further pairs, given the indices [n] of both sides.
        """
        return 1 - k_reciprocal_sparse(
            distances, nearest, distances_of, k1=self.k1, k2=self.k2, lambda_value=self.lambda_value
        )


def configured_reranker(settings: Any) -> Any:
    """Return the re-ranker that `evaluate.rerank` configures.

    Args:
        settings: `params.evaluate.rerank`: a re-ranker, or the settings of k-reciprocal encoding without a kind.
    """
    return settings if hasattr(settings, "rerank") else KReciprocal(**settings.model_dump())
