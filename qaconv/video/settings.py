"""Say which boxes become crops: the rules and their defaults, which the command line reads without numpy."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from qaconv.config.values import Settings, Share


class CropSettings(Settings):
    """Rules for the choice of crops."""

    min_height: PositiveInt = 64  # pixels of a box
    max_overlap: Share = 0.3  # of a box's area, covered by one other box
    spacing_s: PositiveFloat = 1.0  # seconds between two crops of a track, at least
    most: Annotated[int, Field(ge=2)] = 10  # crops of a track


DEFAULTS = CropSettings()
