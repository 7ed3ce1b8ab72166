"""What a report says, without a word about how it looks: plain values, so that the page and the data say the same.

Figures are shares in [0, 1], scores are logits, times are seconds. S = H*W locations of a feature map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["success", "near miss", "failure"]
Verdict = Literal["right", "wrong", "junk", "same camera"]
TRANSIT_S = 600  # of gaps between two cameras that are shown, around the pair's usual one
Rows = Sequence[Mapping[str, Any]]  # of a table: a mapping from column to value each


@dataclass(frozen=True)
class Crop:
    """An image of a person: who, where and when.

    Attributes:
        image: path below the target's images.
        pid: the person.
        camid: the camera, from 0.
        time_s: on that camera's clock; None where unknown.
    """

    image: str
    pid: int
    camid: int
    time_s: float | None


@dataclass(frozen=True)
class Answer:
    """A gallery image that a query was given.

    Attributes:
        crop: the image.
        verdict: "junk" and "same camera" do not count.
        rank: from 1, among those that count; None for the others.
        score: logit.
    """

    crop: Crop
    verdict: Verdict
    rank: int | None
    score: float


@dataclass(frozen=True)
class Search:
    """A query and what the gallery answered, best first.

    Attributes:
        outcome: "success" is a right image first, "near miss" one among the first five, "failure" none.
        query: the image that was asked for.
        first_rank: of the first right image.
        average_precision: of this query.
        answers: the first that count, and those that do not count where they fall.
    """

    outcome: Outcome
    query: Crop
    first_rank: int
    average_precision: float
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Link:
    """Two locations that QAConv took for the same part of a person.

    Attributes:
        query: (row, column) in the query's map.
        gallery: (row, column) in the gallery image's map.
        cosine: how alike they are, in [-1, 1].
        share: what its two locations add to the score together, in logits.
    """

    query: tuple[int, int]
    gallery: tuple[int, int]
    cosine: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """Why two images were given their score.

    Attributes:
        query: one image.
        answer: the other.
        query_shares: [H][W], what each location of the query adds to the score, in logits.
        gallery_shares: [H][W], likewise.
        constant: what every pair is given; with all shares it sums to the score.
        links: the strongest first.
    """

    query: Crop
    answer: Answer
    query_shares: Sequence[Sequence[float]]
    gallery_shares: Sequence[Sequence[float]]
    constant: float
    links: Sequence[Link]


@dataclass(frozen=True)
class Sighting:
    """A gallery image among the first ten without time, or with it, and what time did to it.

    Attributes:
        crop: the image.
        right: whether it shows the query's person.
        factor: lifted score / score.
        before: rank without time, from 1.
        after: rank with time.
    """

    crop: Crop
    right: bool
    factor: float
    before: int
    after: int


@dataclass(frozen=True)
class Track:
    """What time says about one gallery camera, for one query.

    Attributes:
        camid: the camera.
        times: of its gallery images within the line's window, rising; thinned out where there are many.
        factors: lifted score / score of those.
    """

    camid: int
    times: Sequence[float]
    factors: Sequence[float]


@dataclass(frozen=True)
class TimeLine:
    """What times changed about one query's answers.

    Attributes:
        query: the image that was asked for.
        before: average precision without time.
        after: with time.
        first_s: start of the window, which holds the query and the first answers with time.
        last_s: its end.
        tracks: one a gallery camera.
        sightings: best with time first.
    """

    query: Crop
    before: float
    after: float
    first_s: float
    last_s: float
    tracks: Sequence[Track]
    sightings: Sequence[Sighting]


@dataclass(frozen=True)
class Figure:
    """A mean over queries, in [0, 1], and its 95 per cent confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Target:
    """One camera network, and how the model does there.

    Attributes:
        name: the target.
        seen: whether it was trained on.
        blurred: whether heads are blurred in its pictures.
        root: the folder that crops' paths are relative to.
        queries: how many have a true match.
        gallery: images that are searched.
        cameras: their number.
        digest: of table and images.
        figures: rank1 and mAP by method and ranking.
        gain: mAP of QAConv less that of the baseline, direct, on the same queries.
        thresholds: false_match_rate, threshold (a logit) and true_match_rate of QAConv's direct scores, a row each.
        tables: further figures by name: cmc, roc, camera_pairs, scores, transit.
        outcomes: how many queries ended how.
        searches: examples.
        explanations: of some of them.
        profile: the temporal profile of QAConv, as JSON.
        time_lines: examples of what it did.
    """

    name: str
    seen: bool
    blurred: bool
    root: str
    queries: int
    gallery: int
    cameras: int
    digest: str
    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    gain: Figure
    thresholds: Rows
    tables: Mapping[str, Rows]
    outcomes: Mapping[Outcome, int]
    searches: Sequence[Search]
    explanations: Sequence[Explanation]
    profile: Mapping[str, Any]
    time_lines: Sequence[TimeLine]

    def images(self) -> list[str]:
        """Every image that the page shows, by name."""
        crops = [search.query for search in self.searches]
        crops += [answer.crop for search in self.searches for answer in search.answers]
        crops += [crop for of in self.explanations for crop in (of.query, of.answer.crop)]
        crops += [line.query for line in self.time_lines]
        crops += [sighting.crop for line in self.time_lines for sighting in line.sightings]
        return sorted({crop.image for crop in crops})


@dataclass(frozen=True)
class Report:
    """The whole.

    Attributes:
        trained: of each method, model.json: its architecture, what it was trained on, and how.
        history: each method's training, a row an epoch.
        seed: examples are drawn with it.
        targets: in the order of params.yaml.
    """

    trained: Mapping[str, Mapping[str, Any]]
    history: Mapping[str, Rows]
    seed: int
    targets: Sequence[Target]

    def as_data(self) -> dict[str, Any]:
        """The same as JSON's types."""
        return asdict(self)
