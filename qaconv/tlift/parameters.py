"""Define how much times count in a lift."""

from dataclasses import dataclass

import numpy as np

from qaconv.tlift.lift import check_parameters


@dataclass(frozen=True)
class LiftParameters:
    """How much times count.

    Attributes:
        tau_s: queries on one camera less than this many seconds apart are neighbours.
        sigma_s: width of TLift's time weight, in seconds.
        top_k: pivots on each gallery camera.
        alpha: factor of a score that companions do not support; with a large one TLift hardly counts.
        transit_weight: exponent of the likelihood ratio of transit times; 0 leaves them out.

    Raises:
        ValueError: a value is out of range.
    """

    tau_s: float = 100.0
    sigma_s: float = 200.0
    top_k: int = 10
    alpha: float = 0.2
    transit_weight: float = 0.0

    def __post_init__(self) -> None:
        check_parameters(tau=self.tau_s, sigma=self.sigma_s, top_k=self.top_k, alpha=self.alpha)
        if not 0 <= self.transit_weight < np.inf:
            raise ValueError(f"transit_weight must be at least 0 and finite, got {self.transit_weight}")
