"""Settings of the adaptation to a target without labels."""

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from qaconv.config.values import Name, Settings


class AdaptConfig(Settings):
    """How the served method's network is adapted to targets; `train` has what is not here."""

    targets: list[Name] = Field(default_factory=list)  # some of `targets`
    camera_norms: bool = False  # whether cameras get batch norms of their own where times say that it helps
    rounds: NonNegativeInt = 3  # at most: it stops when matches of people held out get no better; 0: nothing is trained
    epochs: PositiveInt = 4  # of a round, each of as many images as the target has; lr / 10 near the end
    lr: PositiveFloat = 0.01  # of all weights
