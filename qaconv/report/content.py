"""Define the content of a report as plain values: the page and its data show the same.

Figures are in [0, 1], scores are logits, times are seconds. Feature maps have H x W locations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["success", "near miss", "failure"]
Verdict = Literal["match", "not a match", "junk", "unlabelled", "same camera"]
TRANSIT_S = 600  # seconds around the usual gap of two cameras that are shown
Rows = Sequence[Mapping[str, Any]]  # rows of a table: values by column


@dataclass(frozen=True)
class Crop:
    """An image of a person.

    Attributes:
        image: path below the target's images.
        pid: person; -2 is unlabelled.
        camid: camera, from 0.
        time_s: on the camera's clock, in seconds; None where unknown.
    """

    image: str
    pid: int
    camid: int
    time_s: float | None


@dataclass(frozen=True)
class Answer:
    """A gallery image in the ranking of a query.

    Attributes:
        crop: image.
        verdict: only "match" and "not a match" count.
        rank: from 1 among the images that count; None for the others.
        score: logit.
    """

    crop: Crop
    verdict: Verdict
    rank: int | None
    score: float


@dataclass(frozen=True)
class Search:
    """A query and the first images of its ranking.

    Attributes:
        outcome: "success" has a match first, "near miss" among the first five, "failure" later.
        query: image.
        first_rank: rank of the first match.
        average_precision: of this query.
        answers: the first images that count, and those between them that do not.
    """

    outcome: Outcome
    query: Crop
    first_rank: int
    average_precision: float
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Link:
    """Two corresponding locations of a query and a gallery image.

    Attributes:
        query: (row, column) in the query's map.
        gallery: (row, column) in the gallery image's map.
        cosine: similarity in [-1, 1].
        contribution: of the two locations to the score, in logits.
    """

    query: tuple[int, int]
    gallery: tuple[int, int]
    cosine: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """How a score is made up.

    Attributes:
        query: image.
        answer: gallery image.
        query_contributions: of each location of the query to the score, in logits, [H][W].
        gallery_contributions: of each location of the gallery image, [H][W].
        constant: of every pair; with all contributions it sums to the score.
        links: the strongest first.
    """

    query: Crop
    answer: Answer
    query_contributions: Sequence[Sequence[float]]
    gallery_contributions: Sequence[Sequence[float]]
    constant: float
    links: Sequence[Link]


@dataclass(frozen=True)
class Sighting:
    """A gallery image that is among the first ten with or without times.

    Attributes:
        crop: image.
        match: whether it shows the query's person.
        factor: lifted score / score.
        before: rank without times, from 1.
        after: rank with times.
    """

    crop: Crop
    match: bool
    factor: float
    before: int
    after: int


@dataclass(frozen=True)
class Track:
    """The effect of times on the images of one gallery camera, for one query.

    Attributes:
        camid: camera.
        times: of its gallery images within the line's window, ascending; a sample where there are many.
        factors: lifted score / score of those images.
    """

    camid: int
    times: Sequence[float]
    factors: Sequence[float]


@dataclass(frozen=True)
class TimeLine:
    """The effect of times on one query's ranking.

    Attributes:
        query: image.
        before: average precision without times.
        after: average precision with times.
        first_s: start of the window, which holds the query and the first answers with times.
        last_s: end of the window.
        tracks: one for each gallery camera.
        sightings: best with times first.
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
    """A mean over queries in [0, 1] and its 95 per cent confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Identity:
    """Sightings that were grouped as one person.

    Attributes:
        number: of the identity.
        probability: mean over its sightings that each belongs to it.
        sightings: number of its sightings.
        crops: the least certain of them, and the most certain first.
        probabilities: that each crop belongs to it.
    """

    number: int
    probability: float
    sightings: int
    crops: Sequence[Crop]
    probabilities: Sequence[float]


@dataclass(frozen=True)
class People:
    """The people of a target, found without labels.

    Attributes:
        summary: content of summary.json.
        truth: what labels say of the same, without the sightings whose people are unknown; None without labels.
        present: rows of camid, from_s, to_s and identities, the number seen from then until then; none without times.
        uncertain: the identities of several sightings that are the least certain.
    """

    summary: Mapping[str, Any]
    truth: Mapping[str, Any] | None
    present: Rows
    uncertain: Sequence[Identity]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A camera network, with labels or without.

    Attributes:
        name: of the target.
        seen: whether its training images were trained on.
        blurred: whether heads are blurred in its pictures.
        root: folder that crops' paths are relative to.
        cameras: number of cameras.
        camera_names: by camid; empty where cameras have numbers only.
        digest: of table and images.
        profile: temporal profile of the served method, as in its file.
        people: identities, and what is estimated of them.
        reranking: how the served method's gallery is re-ranked, as `Matches.choice`.
        tables: tables by name; "transit" are the profile's transit times.
    """

    name: str
    seen: bool
    blurred: bool
    root: str
    cameras: int
    camera_names: Mapping[int, str]
    digest: str
    profile: Mapping[str, Any]
    people: People
    reranking: Mapping[str, Any]
    tables: Mapping[str, Rows]

    def images_of_people(self) -> list[str]:
        """Return the paths of the images of uncertain identities."""
        return [crop.image for identity in self.people.uncertain for crop in identity.crops]

    def camera(self, camid: int) -> str:
        """Return a camera's name for people."""
        return self.camera_names.get(camid, f"cam {camid}")


@dataclass(frozen=True, kw_only=True)
class Target(Network):
    """A camera network with labels, and the results on it.

    Attributes:
        queries: number of queries with a true match.
        gallery: number of gallery images whose people are known.
        figures: rank1 and mAP by method and ranking.
        splits: means and deviations over random halves of the people, by method; empty where there are none.
        gains: mAP of the served method less that of each other one, for direct matching on the same queries.
        thresholds: rows of false_match_rate, threshold (a logit) and true_match_rate of the served method's direct
            scores.
        marked: threshold, answers, precision and recall of what the served method marks as matches by default, among
            its answers; None where the profile states no probabilities.
        tables: further metrics by name: cmc, roc, camera_pairs, stated, scores; and transit.
        outcomes: number of queries of each outcome.
        searches: examples.
        explanations: of some of the examples.
        time_lines: examples of what it changed.
    """

    queries: int
    gallery: int
    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    splits: Mapping[str, Mapping[str, float]]
    gains: Mapping[str, Figure]
    thresholds: Rows
    marked: Mapping[str, Any] | None
    outcomes: Mapping[Outcome, int]
    searches: Sequence[Search]
    explanations: Sequence[Explanation]
    time_lines: Sequence[TimeLine]

    def images(self) -> list[str]:
        """Return the paths of all images that the page shows."""
        crops = [search.query for search in self.searches]
        crops += [answer.crop for search in self.searches for answer in search.answers]
        crops += [crop for explanation in self.explanations for crop in (explanation.query, explanation.answer.crop)]
        crops += [line.query for line in self.time_lines]
        crops += [sighting.crop for line in self.time_lines for sighting in line.sightings]
        return sorted({crop.image for crop in crops} | set(self.images_of_people()))


@dataclass(frozen=True)
class LikelyAnswer:
    """A gallery image in the ranking of a query whose person nobody has stated.

    Attributes:
        crop: image.
        rank: from 1.
        probability: stated, in [0, 1]; None where the profile states none.
        marked: whether the probability is above the threshold of a match.
    """

    crop: Crop
    rank: int
    probability: float | None
    marked: bool


@dataclass(frozen=True)
class LikelySearch:
    """A query and its best answers, with times where they are used."""

    query: Crop
    answers: Sequence[LikelyAnswer]


@dataclass(frozen=True, kw_only=True)
class EstimatedTarget(Network):
    """A camera network without labels, and what can be said about it.

    Attributes:
        estimates: content of its metrics file.
        searches: examples.
    """

    estimates: Mapping[str, Any]
    searches: Sequence[LikelySearch]

    @property
    def is_reviewed(self) -> bool:
        """Whether people have answered about its pairs."""
        return any("reviewed" in figures for figures in self.estimates.values() if isinstance(figures, Mapping))

    def images(self) -> list[str]:
        """Return the paths of all images that the page shows."""
        crops = [crop for search in self.searches for crop in (search.query, *(a.crop for a in search.answers))]
        return sorted({crop.image for crop in crops} | set(self.images_of_people()))


@dataclass(frozen=True)
class Report:
    """Content of the report.

    Attributes:
        rankings: label by key, in the order of the tables.
        methods: what each method compares, by name, the served one first.
        trained: model.json of each method: its architecture, its training data and recipe.
        history: training of each method, one row for each epoch.
        seed: of the drawn examples.
        targets: those with labels, in the order of params.yaml.
        estimated: those without labels, in that order.
        adapted: content of metrics.json by target of `adapt.targets`.
    """

    rankings: Mapping[str, str]
    methods: Mapping[str, str]
    trained: Mapping[str, Mapping[str, Any]]
    history: Mapping[str, Rows]
    seed: int
    targets: Sequence[Target]
    estimated: Sequence[EstimatedTarget]
    adapted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def served(self) -> str:
        """Name of the served method."""
        return next(iter(self.methods))

    @property
    def networks(self) -> list[Target | EstimatedTarget]:
        """All targets, those with labels first."""
        return [*self.targets, *self.estimated]

    @property
    def is_reviewed(self) -> bool:
        """Whether people have answered about pairs of a target without labels."""
        return any(target.is_reviewed for target in self.estimated)

    def as_data(self) -> dict[str, Any]:
        """Return the content in JSON's types."""
        return asdict(self)
