"""Define the kinds of `evaluate.rerank`: how the gallery is ranked again by the neighbours of its images.

Q queries, G gallery images, N = Q + G.
"""

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from qaconv.config.kinds import RerankSettings
from qaconv.matching.rerank import Distances, Neighbourhoods, k_reciprocal_sparse
from qaconv.matching.rerank_choice import compare_cameras
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
    apply: Literal["where_it_helps", "always"] = "where_it_helps"  # by qaconv/matching/rerank_choice.py, without labels

    def choose(self, camids: NDArray[np.integer], distances_of: Distances) -> tuple[Self | None, dict[str, Any]]:
        """Choose by the number of images that people have on a camera, unless `apply` is always.

        With one the direct ranking is kept, with two k1 and k2 are halved. benchmarks/reranking.py has figures.
        """
        if self.apply == "always":
            return self, {}
        evidence = compare_cameras(camids, distances_of)
        if evidence.images_on_camera == 1:
            return None, asdict(evidence)
        if evidence.images_on_camera == 2:
            return self.model_copy(update={"k1": -(-self.k1 // 2), "k2": -(-self.k2 // 2)}), asdict(evidence)
        return self, asdict(evidence)

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
