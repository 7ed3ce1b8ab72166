"""Name what can be wrong with a camera's clock, and what is done about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["reset", "backwards", "missing", "unit", "impossible", "few", "gap", "duplicates", "drift", "jump"]
Action = Literal["mended", "left out", "kept", "pooled statistics"]

LEFT_OUT: Action = "left out"
MEANINGS: Mapping[Kind, str] = {
    "reset": "in the order of recording, the clock starts again",
    "backwards": "in the order of recording, a time falls and returns",
    "missing": "sightings have no time",
    "unit": (
        "the times span more than 8 times those of the other cameras (frames or milliseconds), or no camera's span a "
        "minute (hours or days)"
    ),
    "impossible": "times are far from all others",
    "few": "there are fewer than 10 sightings with a time",
    "gap": "the camera saw nothing for a quarter of the time span",
    "duplicates": "two sightings of the same time are each other's nearest neighbour",
    "drift": "the clock gains steadily on the others",
    "jump": "from some time on, the clock shows a constant number of seconds too many",
}
ACTIONS: Mapping[Action, str] = {
    "mended": "times are corrected",
    "left out": "times are not used",
    "kept": "times are used",
    "pooled statistics": "times are used, with the statistics of the other cameras",
}


@dataclass(frozen=True)
class Finding:
    """A fault of one camera's clock.

    Attributes:
        camid: camera.
        kind: see MEANINGS.
        time_s: start on the camera's clock, in seconds; None where the sightings have no time.
        detail: description for people.
        done: see ACTIONS.

    Raises:
        ValueError: the kind or the action is unknown.
    """

    camid: int
    kind: Kind
    time_s: float | None
    detail: str
    done: Action

    def __post_init__(self) -> None:
        for name, value, allowed in (("kind", self.kind, get_args(Kind)), ("done", self.done, get_args(Action))):
            if value not in allowed:
                raise ValueError(f"unknown {name} {value!r} of a clock finding, allowed: {', '.join(allowed)}")
