"""Define, write and read what is estimated of the people of a target, `artifacts/identities/<target>/summary.json`.

No pid has a part in it. `low` and `high` are the ends of 95 per cent intervals.
"""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, FiniteFloat

from qaconv.files import read_model, write_json
from qaconv.metrics.bootstrap import CONFIDENCE


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Part):
    """An estimate and its 95 per cent interval."""

    value: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat

    @classmethod
    def around(cls, value: float, draws: ArrayLike) -> "Interval":
        """Return a value with the interval of draws, widened to hold the value."""
        low, high = np.quantile(np.append(draws, value), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return cls(value=value, low=min(value, float(low)), high=max(value, float(high)))


class Flow(_Part):
    """Journeys of people from one camera to another, with no camera between."""

    from_camid: int
    to_camid: int
    journeys: int
    low: FiniteFloat
    high: FiniteFloat


class Dwell(_Part):
    """Length of visits to a camera, in seconds."""

    camid: int
    visits: int  # with at least two times, which have a length
    median_s: FiniteFloat
    low_s: FiniteFloat
    high_s: FiniteFloat


class Precision(Interval):
    """Share of right ones among the pairs on two cameras whose probability is above a threshold."""

    threshold: FiniteFloat
    pairs: int


class Half(_Part):
    """Pairs of one half of the time span, judged by a profile fitted on it and by one fitted on the other half."""

    pairs: int  # above the threshold by the profile of its own half
    precision: FiniteFloat  # by the profile of its own half
    held_out: FiniteFloat  # of the same pairs by the profile of the other half


class Trust(_Part):
    """Checks of the estimates that need no labels."""

    halves: tuple[Half, ...]  # none where a half has too few sightings to fit a profile
    kept_with_permuted_times: (
        FiniteFloat  # share of the expected matches left when the times of each camera are permuted
    )


class Quality(_Part):
    """How good identities and matches are, estimated without labels."""

    precision: tuple[Precision, ...]
    found: Interval  # share of the sightings joined with a right one on another camera, of those that have one
    purity: Interval  # share of the sightings that show the person most frequent in their identity
    trust: Trust | None = None  # not written where times are not used


class Summary(_Part):
    """What is estimated of the people of a target."""

    sightings: int
    identities: int
    last_number: int  # largest that any identity has had, in this result or in an earlier one that it continues
    people: Interval
    flows: tuple[Flow, ...]
    dwell: tuple[Dwell, ...]
    quality: Quality
    time_used: bool

    def save(self, path: Path) -> None:
        """Write the file."""
        write_json(path, self.model_dump(mode="json", exclude_none=True))

    @classmethod
    def load(cls, path: Path) -> "Summary":
        """Read the file.

        Raises:
            InputError: it does not exist, or a figure is missing or not a finite number.
        """
        return read_model(cls, path, "identify")
