"""Settings of the adaptation to a target without labels."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from qaconv.config.values import Name, Settings


class AdaptConfig(Settings):
    """How the served method's network is adapted to targets; `train` has what is not here."""

    targets: list[Name] = Field(default_factory=list)  # some of `targets`
    rounds: PositiveInt = 2  # at most: it stops when matches of people held out get no better
    epochs: PositiveInt = 4  # of a round; lr / 10 in the last one if there are several
    lr: PositiveFloat = 0.01  # of all weights
    least_probability: Annotated[float, Field(ge=0, lt=1)] = 0.5  # that a sighting belongs to its identity
