"""What the service is asked to keep and to find, and what it answers, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class NewSighting:
    """What is enrolled: an image file's bytes, and where and when."""

    image: bytes
    camid: int
    time_s: float | None = None
    person: str | None = None


@dataclass(frozen=True)
class Query:
    """What is looked for: an image file's bytes, or a stored sighting; camera and time, where known, lift scores."""

    image: bytes | None = None
    sighting: int | None = None
    camid: int | None = None
    time_s: float | None = None


@dataclass(frozen=True)
class Match:
    """A stored sighting's place in the answer to a query."""

    id: int
    camid: int
    time_s: float | None
    score: float  # logit
    probability: float
    match: bool  # whether the probability is above the threshold
    lifted: float | None  # what ranks, where times count


@dataclass(frozen=True)
class Answer:
    """What a search found.

    Attributes:
        version: of the model that answered.
        threshold: the probability above which a sighting is a match.
        results: of each query, best first.
    """

    version: str
    threshold: float
    results: list[list[Match]]
