"""Settings of re-ranking by k-reciprocal encoding (Zhong et al., CVPR 2017)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from qaconv.config.kinds import RerankSettings


class KReciprocal(RerankSettings):
    """k-reciprocal encoding, whose distances `qaconv.matching.rerank` computes."""

    kind: Literal["k_reciprocal"] = "k_reciprocal"
    k1: PositiveInt = 20  # neighbours that must name each other
    k2: PositiveInt = 6  # nearest images whose neighbourhoods are averaged
    lambda_value: Annotated[float, Field(ge=0, le=1)] = 0.3  # weight of the original distance
