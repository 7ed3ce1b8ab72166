"""Draw examples of searches, explain their scores, and show what times changed.

A rule and a seed draw every example. Q queries, N sightings; feature maps have H x W locations.
"""

import math
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qaconv.data.manifest import JUNK, UNLABELLED, is_measured
from qaconv.matching import MapStore
from qaconv.report.content import Answer, Crop, Explanation, Link, Outcome, Search, Sighting, TimeLine, Track, Verdict
from qaconv.runtime.correspondences import BestPartners, best_partners
from qaconv.runtime.head import Head

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NEAR = 5  # a match among the first NEAR is a near miss
SHOWN = 10  # images that count in an example
MAX_NOT_COUNTED = 5  # images that do not count in an example
MAX_LINKS = 12
MAX_STEMS = 200  # of a camera on a time line
MARGIN_S = 120  # seconds on a time line before its first image and after its last one


def outcomes(first_ranks: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the outcome of each search by the rank of its first match; NaN where there is none (NaN)."""
    return pd.cut(first_ranks, [0, 1, NEAR, np.inf], labels=OUTCOMES).astype("object")


def choose(outcome_of: "pd.Series[Any]", count: int, seed: int) -> dict[Outcome, list[str]]:
    """Draw up to `count` queries of each outcome, all equally likely; the order of the queries does not matter.

    Args:
        outcome_of: outcome by image.
        count: queries of each outcome at most.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    names = {outcome: sorted(outcome_of.index[outcome_of == outcome]) for outcome in OUTCOMES}
    return {
        outcome: [images[position] for position in rng.permutation(len(images))[:count]]
        for outcome, images in names.items()
    }


class QueryRanking:
    """The ranking of one query.

    Args:
        sightings: image, pid, camid, time_s and split of the N sightings.
        query: row of the query.
        scores: of the query with every sighting, [N]; only those of the gallery count.

    Attributes:
        verdicts: of each sighting, [N].
        order: rows of the gallery, best first; of equal scores, images that are not a match come first.
        ranks: of the rows in `order`; 0 for those that do not count.
    """

    def __init__(self, sightings: pd.DataFrame, query: int, scores: NDArray[np.floating]) -> None:
        self.sightings, self.query, self.scores = sightings, query, scores
        query_row = sightings.iloc[query]
        same_person = (sightings["pid"] == query_row["pid"]).to_numpy()
        same_camera = (sightings["camid"] == query_row["camid"]).to_numpy()
        junk = (sightings["pid"] == JUNK).to_numpy()
        unlabelled = (sightings["pid"] == UNLABELLED).to_numpy()
        conditions = [junk, unlabelled, same_person & same_camera, same_person]
        self.verdicts = np.select(conditions, ["junk", "unlabelled", "same camera", "match"], "not a match")
        gallery = np.flatnonzero(sightings["split"] == "gallery")
        order = gallery[np.lexsort((self.verdicts[gallery] == "match", -scores[gallery]))]
        counts = np.isin(self.verdicts[order], ["match", "not a match"])
        self.ranks = np.where(counts, counts.cumsum(), 0)
        self.order = order

    @property
    def first_match(self) -> int:
        """Row of the best match."""
        return int(self.order[np.argmax(self.verdicts[self.order] == "match")])

    def rank(self, row: int) -> int:
        """Return the rank of a sighting, or 0 if it does not count."""
        return int(self.ranks[self.order == row][0])

    def answer(self, row: int) -> Answer:
        """Return a sighting as an answer to this query."""
        verdict: Verdict = self.verdicts[row]
        return Answer(crop(self.sightings, row), verdict, self.rank(row) or None, float(self.scores[row]))

    def first_rows(self) -> list[int]:
        """Return the rows of the first SHOWN that count, and of up to MAX_NOT_COUNTED others between them, in order."""
        last = int(np.searchsorted(np.maximum.accumulate(self.ranks), SHOWN))
        rows = self.order[: last + 1]
        not_counted = (self.ranks[: last + 1] == 0).cumsum()
        return [
            int(row)
            for row, rank, number in zip(rows, self.ranks, not_counted, strict=False)
            if rank or number <= MAX_NOT_COUNTED
        ]

    def first_counted(self) -> NDArray[np.int64]:
        """Return the rows of the first SHOWN that count."""
        rows: NDArray[np.int64] = self.order[(self.ranks > 0) & (self.ranks <= SHOWN)]
        return rows


def search(ranking: QueryRanking, outcome: Outcome, average_precision: float) -> Search:
    """Return a query with its first answers."""
    answers = [ranking.answer(row) for row in ranking.first_rows()]
    query = crop(ranking.sightings, ranking.query)
    return Search(outcome, query, ranking.rank(ranking.first_match), average_precision, answers)


def rows_to_explain(ranking: QueryRanking) -> list[int]:
    """Return the row of the first answer and, where that is not a match, of the best match."""
    first = int(ranking.order[np.argmax(ranking.ranks == 1)])
    return list(dict.fromkeys([first, ranking.first_match]))


def explain(ranking: QueryRanking, row: int, maps: MapStore, head: Head) -> Explanation:
    """Split the score of the query and one answer into the contributions of their locations."""
    query = maps.block(ranking.query, ranking.query + 1)[0]
    answer = maps.block(row, row + 1)[0]
    _, height, width = query.shape
    partners = best_partners(query, answer, head)
    return Explanation(
        crop(ranking.sightings, ranking.query),
        ranking.answer(row),
        partners.query_shares.reshape(height, width).tolist(),
        partners.gallery_shares.reshape(height, width).tolist(),
        partners.constant,
        _links(partners, width),
    )


def _links(partners: BestPartners, width: int) -> list[Link]:
    """Return pairs of locations that are each other's best partner, by contribution, largest first."""
    locations = np.arange(len(partners.query_indices))
    mutual = np.flatnonzero(partners.gallery_indices[partners.query_indices] == locations)
    partner = partners.query_indices[mutual]
    contributions = partners.query_shares[mutual] + partners.gallery_shares[partner]
    return [
        Link(
            divmod(int(mutual[position]), width),
            divmod(int(partner[position]), width),
            float(partners.query_cosines[mutual[position]]),
            float(contributions[position]),
        )
        for position in np.argsort(-contributions, kind="stable")[:MAX_LINKS]
    ]


def time_line(
    ranking: QueryRanking, scores: NDArray[np.floating], lifted: NDArray[np.floating], before: float, after: float
) -> TimeLine:
    """Compare a ranking without times and with times.

    Args:
        ranking: of the query without times.
        scores: [N], above 0.
        lifted: [N].
        before: average precision without times.
        after: average precision with times.
    """
    sightings = ranking.sightings
    with_times = QueryRanking(sightings, ranking.query, lifted)
    factors = lifted / scores
    moved = [
        Sighting(
            crop(sightings, row),
            bool(ranking.verdicts[row] == "match"),
            float(factors[row]),
            ranking.rank(row),
            with_times.rank(row),
        )
        for row in dict.fromkeys([*with_times.first_counted(), *ranking.first_counted()])
    ]
    times = sightings["time_s"].iloc[[ranking.query, *with_times.first_counted()]]
    first_s, last_s = float(times.min()) - MARGIN_S, float(times.max()) + MARGIN_S
    gallery = sightings[(sightings["split"] == "gallery") & is_measured(sightings)]
    tracks = []
    for camid in sorted(gallery["camid"].unique().tolist()):
        of_camera = gallery[gallery["camid"] == camid].sort_values("time_s")
        rows = of_camera.index[of_camera["time_s"].between(first_s, last_s)].to_numpy()
        rows = rows[:: math.ceil(len(rows) / MAX_STEMS) or 1]
        tracks.append(Track(camid, of_camera["time_s"][rows].tolist(), factors[rows].tolist()))
    return TimeLine(crop(sightings, ranking.query), before, after, first_s, last_s, tracks, moved)


def crop(sightings: pd.DataFrame, row: int) -> Crop:
    """Return a sighting as a crop."""
    values = sightings.iloc[row]
    time_s = None if np.isnan(values["time_s"]) else float(values["time_s"])
    return Crop(str(values["image"]), int(values["pid"]), int(values["camid"]), time_s)
