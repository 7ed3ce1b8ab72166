"""Requests and answers of the routes of reviews, as JSON."""

from typing import Annotated

from pydantic import BaseModel, Field

from qaconv.reviews.table import Verdict
from qaconv.serving.fields import CameraName, CameraNumber, Id
from qaconv.serving.reviews.store import Source
from qaconv.serving.schemas import Strict

MOST_ANSWERS = 100  # of a request
Reviewer = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Your name, for a service without keys. With keys it is the name of the key, and is not given.",
        examples=["ada"],
    ),
]
Draw = Annotated[int, Field(description="Number of the sample.", examples=[3])]
VERSION = "Version of the model that stated the probabilities."


class PairAnswer(Strict):
    """What a person says of two sightings."""

    first: Id
    second: Id
    answer: Verdict = Field(description="Whether both show one person.", examples=["same"])


class ReviewAnswers(Strict):
    """A person's answers. Earlier ones of the same person about a pair are replaced."""

    answers: Annotated[list[PairAnswer], Field(min_length=1, max_length=MOST_ANSWERS)]
    source: Source = Field(
        "sample",
        description='Where the pairs are from: "sample" are the next pairs to review, the only ones that estimates '
        'count; "search" and "identities" are pairs that somebody chose.',
        examples=["sample"],
    )
    reviewer: Reviewer | None = None


class Stored(BaseModel):
    """The number of stored answers."""

    stored: int = Field(examples=[1])


class AskedSighting(BaseModel):
    """A sighting to compare. The person that it was enrolled with is left out, as it would sway the answer."""

    id: int
    camid: CameraNumber
    camera: CameraName
    time_s: float | None
    track: str | None


class AskedPair(BaseModel):
    """Two sightings to compare. What the model says of them is left out, as it would sway the answer."""

    first: AskedSighting
    second: AskedSighting


class ReviewTask(BaseModel):
    """The next pairs to review."""

    draw: Draw
    version: str = Field(description=VERSION, examples=["7"])
    candidates: int = Field(description="Number of pairs in the sample.", examples=[3842])
    answered: int = Field(description="Number of them that somebody answered.", examples=[100])
    answered_by_reviewer: int = Field(description="Number of them that you answered.", examples=[80])
    pairs: list[AskedPair] = Field(description="In the order of the sample; empty when all are answered.")


class Share(BaseModel):
    """A share with its 95 per cent interval."""

    value: float = Field(examples=[0.906])
    low: float = Field(examples=[0.843])
    high: float = Field(examples=[0.955])


class PrecisionAndRecall(BaseModel):
    """Figures of the pairs that are marked as matches, among the candidate pairs."""

    precision: Share | None = Field(
        description="Share of pairs of one person among the marked ones; null where none is marked."
    )
    recall: Share | None = Field(
        description="Share of marked pairs among those of one person; null where no pair shows one person."
    )


class Stratum(BaseModel):
    """A range of stated probabilities."""

    stratum: str = Field(description="Lowest and highest stated probability.", examples=["0.1 to 0.3"])
    marked: bool = Field(description="Whether its pairs are marked as matches.")
    pairs: int = Field(description="Number of candidate pairs.", examples=[412])
    stated: float = Field(description="Mean of their stated probabilities.", examples=[0.18])
    answers: int = Field(description="Number of answered pairs.", examples=[9])
    same: float = Field(
        description="Answers that both show one person; a pair on which people disagree counts by their shares.",
        examples=[2],
    )


class ReviewEstimates(BaseModel):
    """What the answers say of the matches that the sample's version marks."""

    draw: Draw
    version: str = Field(description=VERSION, examples=["7"])
    threshold: float = Field(description="Stated probability above which a pair is marked.", examples=[0.73])
    answers: int = Field(description="Number of answered pairs.", examples=[100])
    cannot_tell: int = Field(description="Number of pairs that nobody could tell; no figure counts them.", examples=[2])
    disputed: int = Field(
        description="Number of pairs of the target on which two people contradict each other.", examples=[1]
    )
    reviewed: PrecisionAndRecall = Field(description="By the answers.")
    stated: PrecisionAndRecall = Field(description="By the stated probabilities alone, without answers.")
    recalibration: dict[str, float] = Field(
        description="Corrected log odds = scale * stated log odds + offset; 1 and 0 without answers.",
        examples=[{"scale": 0.94, "offset": -0.41}],
    )
    strata: list[Stratum]


class StoredReview(BaseModel):
    """A person's answer about a pair."""

    id: int
    first: int = Field(description="Id of a sighting.")
    second: int = Field(description="Id of another.")
    first_sha256: str = Field(description="Digest of the first sighting's image file.")
    second_sha256: str = Field(description="Digest of the second's.")
    answer: Verdict
    reviewer: str = Field(description="Name of the person's key, or the name that was given.", examples=["ada"])
    answered_s: float = Field(description="Seconds since 1970.")
    version: str = Field(description=VERSION)
    score: float = Field(description="Logit of the pair at that time.")
    probability: float = Field(description="Stated probability at that time.")
    marked: bool = Field(description="Whether the pair was marked as a match.")
    disputed: bool = Field(description="Whether another person answered the opposite.")
    source: Source
    draw: int | None = Field(description="Number of the sample; null where the pair was not drawn.")
    stratum: str | None = Field(description="Range of stated probabilities that the pair was drawn from.")
    stratum_pairs: int | None = Field(description="Number of candidate pairs in the stratum.")
    weight: float | None = Field(
        description="Number of candidate pairs that each answered one of the stratum stands for; it falls with every "
        "further answer."
    )


class StoredReviews(BaseModel):
    """Stored answers."""

    answers: list[StoredReview]
