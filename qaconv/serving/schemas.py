"""What the service is asked and what it answers, as JSON; the OpenAPI document is made of these."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Base64Bytes, BaseModel, BeforeValidator, ConfigDict, Field

from qaconv.runtime.decode import ALLOWED_FORMATS

LARGEST_IMAGE = 1 << 20  # bytes of a crop's file
IDS = 2**53  # a number of JSON, which browsers read as a double, is exact below it


def _whole(value: object) -> object:
    """JSON Schema takes 1.0 for an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
Id = Annotated[int, Field(ge=1, lt=IDS, description="Of a stored sighting."), WHOLE]
Camera = Annotated[int, Field(ge=0, lt=2**31, description="Camera, counted from 0."), WHOLE]
Seconds = Annotated[
    float, Field(allow_inf_nan=False, ge=-1e12, le=1e12, description="Seconds on the sighting camera's clock.")
]
Person = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$", description="Your own word for who it is.")
]


def _not_large(image: bytes) -> bytes:
    if len(image) > LARGEST_IMAGE:
        raise ValueError(f"has {len(image):,} bytes; legal are {LARGEST_IMAGE:,} at most")
    return image


Image = Annotated[
    Base64Bytes,
    AfterValidator(_not_large),
    Field(description=f"A file in base64: {ALLOWED_FORMATS}.", max_length=LARGEST_IMAGE * 4 // 3 + 4, strict=False),
]


class Strict(BaseModel):
    """Takes what the document says and nothing like it: no further fields, and no true for 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class EnrolSighting(Strict):
    """A crop that shows one person."""

    image: Image
    camid: Camera
    time_s: Seconds | None = None
    person: Person | None = None


class Enrolment(Strict):
    sightings: Annotated[list[EnrolSighting], Field(min_length=1, max_length=256)]


class Enrolled(BaseModel):
    ids: list[int] = Field(description="Of the stored sightings, in the order of the request.")


class ImageQuery(Strict):
    """By a crop. With its camera and time, time counts as well as appearance."""

    image: Image
    camid: Camera | None = None
    time_s: Seconds | None = None


class SightingQuery(Strict):
    """By a stored sighting, whose own camera and time hold unless others are named."""

    sighting: Id
    camid: Camera | None = None
    time_s: Seconds | None = None


SearchQuery = ImageQuery | SightingQuery


class SearchRequest(Strict):
    queries: Annotated[list[SearchQuery], Field(min_length=1, max_length=64)]
    top_k: Annotated[int, Field(ge=1, le=200), WHOLE] = 10
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Probability above which it is a match; without one, the strictest of the model's thresholds."
    )
    camids: Annotated[list[Camera], Field(max_length=1000)] | None = Field(None, description="Only these cameras.")
    from_s: Seconds | None = None
    to_s: Seconds | None = None


class Match(BaseModel):
    id: int
    camid: int
    time_s: float | None
    score: float = Field(description="Logit; higher is a better match.")
    probability: float = Field(description="That both show one person.")
    match: bool = Field(description="Whether the probability is above the threshold.")
    lifted: float | None = Field(description="What ranks where times count; no probability.")


class SearchAnswer(BaseModel):
    version: str = Field(description="Of the model that answered.")
    threshold: float = Field(description="Probability above which `match` is true.")
    results: list[list[Match]] = Field(description="Best first, for each query.")


class ExplainRequest(Strict):
    query: SearchQuery
    sighting: Id
    limit: Annotated[int, Field(ge=1, le=200), WHOLE] = 20


class Correspondence(BaseModel):
    query: tuple[float, float] = Field(description="Place (x, y) in shares of the image's width and height.")
    gallery: tuple[float, float]
    cosine: float
    share: float = Field(description="Of the logit: positive speaks for one person, negative against.")
    asked_by: Literal["query", "gallery"]


class Explanation(BaseModel):
    correspondences: list[Correspondence] = Field(description="Those that move the logit most, first.")


class StoredSighting(BaseModel):
    id: int
    camid: int
    time_s: float | None
    person: str | None
    enrolled_s: float = Field(description="Seconds since 1970.")


class Sightings(BaseModel):
    sightings: list[StoredSighting]


class Target(BaseModel):
    name: str
    sightings: int
    cameras: list[int] = Field(description="Those that its profile knows.")
    times_count: bool = Field(description="Whether camera and time of a query lift scores.")
    retention_days: float | None


class Threshold(BaseModel):
    """Chosen on people as in training, whom training did not see; on another camera network the rates differ."""

    false_match_rate: float = Field(description="Share of pairs of two people that it takes for one.")
    probability: float
    true_match_rate: float = Field(description="Share of pairs of one person that it finds.")


class Targets(BaseModel):
    version: str = Field(description="Of the model in charge.")
    calibrated: bool = Field(description="Whether probabilities are calibrated.")
    thresholds: list[Threshold] = Field(description="The strictest last; empty where no people were held out.")
    threshold: float = Field(description="Probability above which a sighting is a match unless a search says another.")
    targets: list[Target]


class Deleted(BaseModel):
    deleted: int


class Health(BaseModel):
    status: str
    version: str | None = None


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
