"""Requests and answers as JSON. The OpenAPI document is made from these models."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Base64Bytes, BaseModel, BeforeValidator, ConfigDict, Field

from qaconv.runtime.decode import ALLOWED_FORMATS
from qaconv.runtime.limits import LARGEST_CAMID
from qaconv.times import LARGEST_S, check_seconds

LARGEST_IMAGE = 1 << 20  # bytes of a crop's file
IDS = 2**53  # below it a JSON number is exact in browsers, which read doubles


def _whole(value: object) -> object:
    """Accept 1.0 as an integer, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
Id = Annotated[int, Field(ge=1, lt=IDS, description="Id of a stored sighting."), WHOLE]
Camera = Annotated[int, Field(ge=0, le=LARGEST_CAMID, description="Camera, from 0."), WHOLE]
Person = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$", description="Your own word for the person.")
]


def _can_be_seconds(time: float) -> float:
    check_seconds("time", time)
    return time


Seconds = Annotated[
    float,
    AfterValidator(_can_be_seconds),
    Field(
        allow_inf_nan=False,
        description="Seconds on the sighting camera's clock.",
        json_schema_extra={"minimum": -LARGEST_S, "maximum": LARGEST_S},
    ),
]


def _not_large(image: bytes) -> bytes:
    if len(image) > LARGEST_IMAGE:
        raise ValueError(f"must have at most {LARGEST_IMAGE:,} bytes, got {len(image):,}")
    return image


Image = Annotated[
    Base64Bytes,
    AfterValidator(_not_large),
    Field(description=f"A file in base64: {ALLOWED_FORMATS}.", max_length=LARGEST_IMAGE * 4 // 3 + 4, strict=False),
]


class Strict(BaseModel):
    """A body without conversions: no further fields, and no `true` for 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EnrolSighting(Strict):
    """A crop of one person."""

    image: Image
    camid: Camera
    time_s: Seconds | None = None
    person: Person | None = None


class Enrolment(Strict):
    """Sightings to store together."""

    sightings: Annotated[list[EnrolSighting], Field(min_length=1, max_length=256)]


class Enrolled(BaseModel):
    """The stored sightings."""

    ids: list[int] = Field(description="Ids of the stored sightings, in the order of the request.")
    known: int = Field(description="Number of sightings that were stored before, or that the request repeats.")


class ImageQuery(Strict):
    """A query by a crop. With camera and time, times lift the scores."""

    image: Image
    camid: Camera | None = None
    time_s: Seconds | None = None


class SightingQuery(Strict):
    """A query by a stored sighting, with its own camera and time unless others are given."""

    sighting: Id
    camid: Camera | None = None
    time_s: Seconds | None = None


SearchQuery = ImageQuery | SightingQuery


class SearchRequest(Strict):
    """Queries, and which sightings to search."""

    queries: Annotated[list[SearchQuery], Field(min_length=1, max_length=64)]
    top_k: Annotated[int, Field(ge=1, le=200), WHOLE] = 10
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Probability above which a sighting matches. Default: the target's threshold, or with even odds "
        "the model's strictest.",
    )
    even_odds: bool = Field(
        False, description="Whether to state probabilities at even odds, for people as in training, and decide by them."
    )
    camids: Annotated[list[Camera], Field(max_length=1000)] | None = Field(None, description="Only these cameras.")
    from_s: Seconds | None = None
    to_s: Seconds | None = None


class Match(BaseModel):
    """A ranked sighting."""

    id: int
    camid: int
    time_s: float | None
    score: float = Field(description="Logit; higher is a better match.")
    probability: float = Field(description="Probability that both show one person; see `probability_from`.")
    match: bool = Field(description="Whether the probability is above the threshold.")
    lifted: float | None = Field(description="Score that ranks where times are used; not a probability.")


ProbabilityFrom = Annotated[
    Literal["target", "source"],
    Field(
        description="What probabilities hold for: this target, with the size of its gallery and known times; or, at "
        "even odds, people as in training (source)."
    ),
]


class SearchAnswer(BaseModel):
    """The matches of each query."""

    version: str = Field(description="Version of the model that answered.")
    threshold: float = Field(description="Probability above which `match` is true.")
    probability_from: ProbabilityFrom
    results: list[list[Match]] = Field(description="Best first, for each query.")


class ExplainRequest(Strict):
    """A query and a sighting to compare."""

    query: SearchQuery
    sighting: Id
    limit: Annotated[int, Field(ge=1, le=200), WHOLE] = 20


class Correspondence(BaseModel):
    """A location and its best partner in the other image."""

    query: tuple[float, float] = Field(description="Location (x, y) in fractions of the image's width and height.")
    gallery: tuple[float, float]
    cosine: float
    share: float = Field(description="Contribution to the logit: positive for one person, negative against.")
    asked_by: Literal["query", "gallery"]


class Explanation(BaseModel):
    """The correspondences of a query and a sighting."""

    correspondences: list[Correspondence] = Field(description="Those that change the logit most come first.")


class StoredSighting(BaseModel):
    """A sighting in a gallery."""

    id: int
    camid: int
    time_s: float | None
    person: str | None
    enrolled_s: float = Field(description="Seconds since 1970.")


class Sightings(BaseModel):
    """Stored sightings."""

    sightings: list[StoredSighting]


class Target(BaseModel):
    """A camera network and its gallery."""

    name: str
    sightings: int
    cameras: list[int] = Field(description="Cameras in its temporal profile.")
    times_count: bool = Field(description="Whether camera and time of a query lift scores.")
    threshold: float = Field(description="Default threshold of a search.")
    probability_from: ProbabilityFrom
    retention_days: float | None


class Threshold(BaseModel):
    """A threshold chosen on people held out of training. On another camera network the rates differ."""

    false_match_rate: float = Field(description="Share of pairs of two people above it.")
    probability: float
    true_match_rate: float = Field(description="Share of pairs of one person above it.")


class Targets(BaseModel):
    """The targets of a key, and the version that answers."""

    version: str = Field(description="Version of the model that answers.")
    calibrated: bool = Field(description="Whether probabilities are calibrated.")
    thresholds: list[Threshold] = Field(description="The strictest last; empty where nobody was held out of training.")
    threshold: float = Field(description="Default threshold of a search at even odds.")
    targets: list[Target]


class Deleted(BaseModel):
    """The number of deleted sightings."""

    deleted: int


class Health(BaseModel):
    """The state of the service."""

    status: str
    version: str | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
