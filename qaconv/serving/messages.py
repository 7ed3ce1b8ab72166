"""Requests and answers of the service, without HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class NewSighting:
    """A sighting to enrol.

    Attributes:
        image: bytes of the image file.
        camid: camera, by number or name.
        time_s: seconds on the camera's clock, or a date. Default: unknown.
        person: the caller's word for the person. Default: none.
        track: name of the images of one person on one camera that this is one of. Default: none.
    """

    image: bytes
    camid: int | str
    time_s: float | str | None = None
    person: str | None = None
    track: str | None = None


@dataclass(frozen=True)
class Enrolled:
    """The answer to an enrolment.

    Attributes:
        ids: ids of the sightings, in the order of the request.
        known: number of sightings that were stored before, or that the request repeats.
    """

    ids: list[int]
    known: int


@dataclass(frozen=True)
class Query:
    """A query by image files or by a stored sighting.

    Attributes:
        images: bytes of the image files, crops of one person on one camera; none for a stored sighting.
        sighting: id of a stored sighting.
        camid: camera, by number or name. New crops are encoded for it, where the version knows cameras; with `time_s`
            it lifts scores. Default: the stored sighting's, of new crops unknown.
        time_s: seconds on the camera's clock, or a date. Default: the stored sighting's.
    """

    images: Sequence[bytes] = ()
    sighting: int | None = None
    camid: int | str | None = None
    time_s: float | str | None = None


@dataclass(frozen=True)
class Limits:
    """The sightings to search.

    Attributes:
        camids: cameras, by number or name. Default: all.
        from_s: earliest time on the sighting camera's clock, or a date. Default: any.
        to_s: latest time. Default: any.
    """

    camids: frozenset[int | str] | None = None
    from_s: float | str | None = None
    to_s: float | str | None = None


@dataclass(frozen=True)
class Match:
    """A ranked track, or a sighting without one, by its best sighting.

    Attributes:
        id: of the best sighting.
        camid: its camera; -1 where the target's profile lacks a camera of its name.
        camera: the camera's name, None where cameras are numbers.
        time_s: seconds on the camera's clock, None where unknown.
        track: name of its track, None where there is none.
        sightings: ids of the track's sightings that were matched, the best first.
        score: logit, of `score_tracks`.
        probability: that both show one person, from the mean logit of all pairs of their crops.
        match: whether the probability is above the threshold.
        lifted: score by which it is ranked where times are used, else None.
    """

    id: int
    camid: int
    camera: str | None
    time_s: float | None
    track: str | None
    sightings: list[int]
    score: float
    probability: float
    match: bool
    lifted: float | None


@dataclass(frozen=True)
class Answer:
    """The answer to a search.

    Attributes:
        version: the version that answered.
        threshold: probability above which a sighting is a match.
        probability_from: what the probabilities hold for: the target, or people as in training ("source").
        results: matches of each query, best first.
    """

    version: str
    threshold: float
    probability_from: Literal["target", "source"]
    results: list[list[Match]]
