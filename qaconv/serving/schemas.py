"""Requests and answers as JSON. The OpenAPI document is made from these models."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from qaconv.serving.fields import WHOLE, Camera, CameraName, CameraNumber, Id, Image, Person, Time, Track

MOST_CROPS = 64  # of a request's queries together, each of which is encoded and matched with a shortlist


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
    """A query by a crop. It is encoded for its camera if the version knows cameras. With a time, times lift scores."""

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
