"""Requests and answers about identities as JSON."""

from typing import Annotated

from pydantic import BaseModel, Field

from qaconv.serving.fields import CameraName, CameraNumber, Id, Number
from qaconv.serving.identities.progress import UpdateState
from qaconv.serving.identities.store import ChangeKind
from qaconv.serving.schemas import Strict

MOST_MOVED = 1_000  # sightings of a split

LowestProbability = Annotated[
    float, Field(description="The lowest probability of its sightings, that a sighting belongs to the identity.")
]


class Update(BaseModel):
    """The update of a target's identities."""

    state: UpdateState = Field(description="What it does; waiting: another target is updated first.")
    wanted: bool = Field(description="Whether new sightings are given identities, after a first request for it.")
    searched: int = Field(description="Sightings that this update, or the last one, has searched for.")
    to_search: int = Field(description="Sightings that it searches for.")
    updated_s: float | None = Field(description="End of the last update, in seconds since 1970; null before the first.")
    fault: str | None = Field(description="Why the last update failed; null where it did not.")


class Identity(BaseModel):
    """The sightings of one person, as far as the service can tell."""

    identity: int = Field(description="Number, which is given once in a target.", examples=[7])
    sightings: int
    cameras: int = Field(description="Number of cameras that it was seen on.")
    probability: LowestProbability
    from_s: float | None = Field(description="First time that it was seen; null where unknown.")
    to_s: float | None = Field(description="Last time that it was seen.")
    images: list[int] = Field(description="Ids of sightings: the most probable of each camera, at most 8.")


class Identities(BaseModel):
    """A page of a target's identities."""

    update: Update
    total: int = Field(description="Identities that the filters keep, on all pages.")
    identities: list[Identity]


class Visit(BaseModel):
    """Sightings of one identity on one camera that follow each other."""

    identity: int = Field(examples=[7])
    visit: int = Field(description="Number from 0 within the identity, in order of time.")
    camid: CameraNumber
    camera: CameraName
    from_s: float | None = Field(description="First time; null where unknown.")
    to_s: float | None
    sightings: int
    image: int = Field(description="Id of its most probable sighting.")


class Journeys(BaseModel):
    """A page of visits, in order of time; those without a time are the last."""

    total: int = Field(description="Visits that the filters keep, on all pages.")
    visits: list[Visit]


class Member(BaseModel):
    """A sighting of an identity."""

    id: int
    time_s: float | None
    track: str | None
    probability: float = Field(description="That it belongs to the identity.")


class VisitWithMembers(Visit):
    """A visit with its sightings."""

    members: list[Member] = Field(description="In order of time.")


class Change(BaseModel):
    """A merge or a split."""

    kind: ChangeKind = Field(
        description="merge: the sightings of `other` came to it; split: some of its own went to `other`."
    )
    other: int
    who: str | None = Field(description="Name of the key of the person who asked for it; null where an update did.")
    changed_s: float = Field(description="Seconds since 1970.")


class Journey(BaseModel):
    """An identity with its visits."""

    identity: int
    sightings: int
    probability: LowestProbability
    visits: list[VisitWithMembers] = Field(description="In order of time.")
    changes: list[Change] = Field(description="Its merges and splits, the oldest first.")


class Merge(Strict):
    """The identity to join to another."""

    other: Number = Field(description="Number of the identity whose sightings are joined; it ends.", examples=[12])


class Split(Strict):
    """The sightings to take out of an identity."""

    sightings: Annotated[list[Id], Field(min_length=1, max_length=MOST_MOVED, examples=[[31, 32]])]


class Moved(BaseModel):
    """The identity that sightings have moved to."""

    identity: int
