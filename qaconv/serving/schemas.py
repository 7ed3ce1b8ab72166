"""Requests and answers as JSON. The OpenAPI document is made from these models."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from qaconv.runtime.decode import ALLOWED_FORMATS
from qaconv.runtime.limits import LARGEST_CAMID, LONGEST_NAME, is_name
from qaconv.serving.places import UNKNOWN
from qaconv.times import DATE, LARGEST_S, check_seconds, parse_date

LARGEST_IMAGE = 1 << 20  # bytes of a crop's file
FAR_S = 1e300  # stands for numbers that are too large for a time
MOST_CROPS = 64  # of a request's queries together, each of which is encoded and matched with a shortlist
IDS = 2**53  # below it a JSON number is exact in browsers, which read doubles


def _whole(value: object) -> object:
    """Accept 1.0 as an integer, as JSON Schema does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _camera(value: object) -> int | str:
    number = _whole(value)
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= LARGEST_CAMID:
        return number
    if isinstance(value, str) and is_name(value):
        return value
    raise ValueError(f"must be a camera's number in 0..{LARGEST_CAMID:,}, or its name")


WHOLE = BeforeValidator(_whole)
NAME = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
Id = Annotated[int, Field(ge=1, lt=IDS, description="Id of a stored sighting."), WHOLE]
Camera = Annotated[
    int | str,
    PlainValidator(_camera),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": LARGEST_CAMID}, NAME],
            "description": "Camera, by its number from 0, or by its name where the target's cameras have names.",
        }
    ),
]
Person = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$", description="Your own word for the person.")
]


def _can_be_track(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"must have 1 to {LONGEST_NAME} printable characters without outer spaces")
    return name


Track = Annotated[
    str,
    AfterValidator(_can_be_track),
    Field(
        description="Your own name for images of one person on one camera that follow each other.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_NAME},
    ),
]


def _time(value: object) -> float | str:
    if isinstance(value, str) and parse_date(value) is not None:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"must be a number of seconds, or {DATE}")
    seconds = float(min(max(value, -FAR_S), FAR_S))  # an integer may be too large for a float
    check_seconds("time", seconds)
    return seconds


Time = Annotated[
    float | str,
    PlainValidator(_time),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": -LARGEST_S, "maximum": LARGEST_S},
                {"type": "string", "format": "date-time"},
            ],
            "description": "Seconds on the sighting camera's clock; where the target's times are dates, seconds since "
            "1970 or a date with time and zone in ISO 8601.",
        }
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
    time_s: Time | None = None
    person: Person | None = None
    track: Track | None = None


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
    time_s: Time | None = None


class ImagesQuery(Strict):
    """A query by several crops of one person on one camera, with one camera and time for all."""

    images: Annotated[list[Image], Field(min_length=1, max_length=16)]
    camid: Camera | None = None
    time_s: Time | None = None


class SightingQuery(Strict):
    """A query by a stored sighting, with its own camera and time unless others are given."""

    sighting: Id
    camid: Camera | None = None
    time_s: Time | None = None


SearchQuery = ImageQuery | ImagesQuery | SightingQuery


def _not_many(queries: list[SearchQuery]) -> list[SearchQuery]:
    crops = sum(len(query.images) if isinstance(query, ImagesQuery) else 1 for query in queries)
    if crops > MOST_CROPS:
        raise ValueError(f"must have at most {MOST_CROPS} crops and sightings together, got {crops}")
    return queries


class SearchRequest(Strict):
    """Queries, and which sightings to search."""

    queries: Annotated[
        list[SearchQuery],
        Field(
            min_length=1,
            max_length=MOST_CROPS,
            description=f"At most {MOST_CROPS} crops and stored sightings together, over all queries.",
        ),
        AfterValidator(_not_many),
    ]
    top_k: Annotated[int, Field(ge=1, le=200, description="Largest number of matches a query."), WHOLE] = 10
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Probability above which a sighting matches. Default: the target's threshold, or with even odds "
        "the model's strictest.",
    )
    even_odds: bool = Field(
        False, description="Whether to state probabilities at even odds, for people as in training, and decide by them."
    )
    camids: Annotated[list[Camera], Field(max_length=1000)] | None = Field(None, description="Only these cameras.")
    from_s: Time | None = None
    to_s: Time | None = None


def _known(camid: int) -> int | None:
    return None if camid == UNKNOWN else camid


CameraNumber = Annotated[
    int | None,
    BeforeValidator(_known),
    Field(description="Number of the camera; null where the target's profile lacks a camera of this name."),
]
CameraName = Annotated[str | None, Field(description="Name of the camera; null where cameras are numbers.")]


class Match(BaseModel):
    """A ranked track, or a sighting without one, by its best sighting."""

    id: int = Field(description="Id of the track's sighting with the best score.")
    camid: CameraNumber
    camera: CameraName
    time_s: float | None
    track: str | None
    sightings: list[int] = Field(description="Ids of the track's sightings that were matched, the best first.")
    score: float = Field(
        description="Logit; higher is a better match. Of several crops, the mean of each crop's best logit with a crop "
        "of the other side."
    )
    probability: float = Field(
        description="Probability that both show one person; see `probability_from`. Of several crops, from the mean "
        "logit of all pairs, which is not raised by choosing the best ones."
    )
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

    query: ImageQuery | SightingQuery
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
    camid: CameraNumber
    camera: CameraName
    time_s: float | None
    person: str | None
    track: str | None
    enrolled_s: float = Field(description="Seconds since 1970.")


class Sightings(BaseModel):
    """Stored sightings."""

    sightings: list[StoredSighting]


class Target(BaseModel):
    """A camera network and its gallery."""

    name: str
    sightings: int
    cameras: list[int] = Field(description="Cameras in its temporal profile.")
    camera_names: dict[int, str] = Field(description="Name of each camera; empty where cameras are numbers.")
    time_origin: str = Field(description="The time at 0 s where times are dates; empty where each camera has its own.")
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
