"""A target's sightings, their maps and how each query fared go in; searches, explanations and time lines come out.

Nobody picks an example: a rule and a seed do. Q queries, N sightings, S = H*W locations.
"""

import math
from typing import get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from qaconv.data.manifest import JUNK
from qaconv.matching import MapStore
from qaconv.models.head import Correspondences, QAConv
from qaconv.report.content import Answer, Crop, Explanation, Link, Outcome, Search, Sighting, TimeLine, Track, Verdict

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NEAR = 5  # a right image among the first NEAR is a near miss
SHOWN = 10  # answers that count
ASIDE = 5  # answers that do not count, at most
LINKS = 12  # drawn
STEMS = 200  # of a camera on a time line
MARGIN_S = 120  # shown before and after what a time line is about


def outcomes(first_ranks: pd.Series) -> pd.Series:
    """How each search ended, by the rank of its first right image; where there is none (NaN), NaN."""
    return pd.cut(first_ranks, [0, 1, NEAR, np.inf], labels=OUTCOMES).astype("object")


def choose(ended: pd.Series, each: int, seed: int) -> dict[Outcome, list[str]]:
    """Draws up to `each` queries of every outcome, all of one outcome equally likely, whatever their order.

    Args:
        ended: outcomes by image.
        each: as far as there are so many.
        seed: draws them.
    """
    rng = np.random.default_rng(seed)
    names = {outcome: sorted(ended.index[ended == outcome]) for outcome in OUTCOMES}
    return {outcome: [of[at] for at in rng.permutation(len(of))[:each]] for outcome, of in names.items()}


class Ranking:
    """One query's answers in order.

    Args:
        sightings: image, pid, camid, time_s, split; N rows.
        query: the query's row.
        scores: [N], of the query against every sighting; only the gallery's count.
    """

    def __init__(self, sightings: pd.DataFrame, query: int, scores: NDArray) -> None:
        self.sightings, self.query, self.scores = sightings, query, scores
        asked = sightings.iloc[query]
        same = (sightings["pid"] == asked["pid"]).to_numpy()
        here = (sightings["camid"] == asked["camid"]).to_numpy()
        junk = (sightings["pid"] == JUNK).to_numpy()
        self.verdicts = np.select([junk, same & here, same], ["junk", "same camera", "right"], "wrong")
        gallery = np.flatnonzero(sightings["split"] == "gallery")
        order = gallery[np.lexsort((self.verdicts[gallery] == "right", -scores[gallery]))]  # equal: wrong ones first
        counts = np.isin(self.verdicts[order], ["right", "wrong"])
        self.ranks = np.where(counts, counts.cumsum(), 0)
        self.order = order

    @property
    def first_right(self) -> int:
        """Row of the best right image."""
        return int(self.order[np.argmax(self.verdicts[self.order] == "right")])

    def rank(self, row: int) -> int:
        """A sighting's rank among those that count; 0 if it does not."""
        return int(self.ranks[self.order == row][0])

    def answer(self, row: int) -> Answer:
        """A sighting as an answer to this query."""
        verdict: Verdict = self.verdicts[row]
        return Answer(crop(self.sightings, row), verdict, self.rank(row) or None, float(self.scores[row]))

    def first(self) -> list[int]:
        """Rows of the first SHOWN that count, and up to ASIDE others in between, in order."""
        last = int(np.searchsorted(np.maximum.accumulate(self.ranks), SHOWN))
        rows = self.order[: last + 1]
        aside = (self.ranks[: last + 1] == 0).cumsum()
        return [int(row) for row, rank, before in zip(rows, self.ranks, aside, strict=False) if rank or before <= ASIDE]


def search(ranking: Ranking, outcome: Outcome, average_precision: float) -> Search:
    """A query with its first answers."""
    answers = [ranking.answer(row) for row in ranking.first()]
    query = crop(ranking.sightings, ranking.query)
    return Search(outcome, query, ranking.rank(ranking.first_right), average_precision, answers)


def worth_explaining(ranking: Ranking) -> list[int]:
    """Rows worth explaining: what was answered first, and, where that is wrong, what should have been."""
    answered = int(ranking.order[np.argmax(ranking.ranks == 1)])
    return list(dict.fromkeys([answered, ranking.first_right]))


def explain(ranking: Ranking, row: int, maps: MapStore, head: QAConv) -> Explanation:
    """Why the query and one answer were given their score."""
    query, answer = (torch.from_numpy(maps.block(image, image + 1)) for image in (ranking.query, row))
    with torch.inference_mode():
        found = head.correspondences(query, answer)
    size = (head.height, head.width)
    query_shares, gallery_shares = found.query_shares[0, 0].numpy(), found.gallery_shares[0, 0].numpy()
    return Explanation(
        crop(ranking.sightings, ranking.query),
        ranking.answer(row),
        query_shares.reshape(size).tolist(),
        gallery_shares.reshape(size).tolist(),
        float(found.constant),
        _links(found, head.width),
    )


def _links(found: Correspondences, width: int) -> list[Link]:
    """Pairs of locations that are each other's best, by what they add."""
    partner, back = found.query_indices[0, 0], found.gallery_indices[0, 0]
    own = torch.arange(len(partner))
    own = own[back[partner] == own]
    shares = found.query_shares[0, 0, own] + found.gallery_shares[0, 0, partner[own]]
    return [
        Link(
            divmod(int(own[at]), width),
            divmod(int(partner[own[at]]), width),
            float(found.query_scores[0, 0, own[at]]),
            float(shares[at]),
        )
        for at in shares.argsort(descending=True, stable=True)[:LINKS]
    ]


def time_line(ranking: Ranking, scores: NDArray, lifted: NDArray, before: float, after: float) -> TimeLine:
    """What the lift moved.

    Args:
        ranking: the query's, without time.
        scores: [N], above 0.
        lifted: [N], those scores with time.
        before: average precision without time.
        after: with time.
    """
    sightings = ranking.sightings
    with_time = Ranking(sightings, ranking.query, lifted)
    factors = lifted / scores
    first = [row for of in (with_time, ranking) for row in of.order[(of.ranks > 0) & (of.ranks <= SHOWN)]]
    moved = [
        Sighting(
            crop(sightings, row),
            bool(ranking.verdicts[row] == "right"),
            float(factors[row]),
            ranking.rank(row),
            with_time.rank(row),
        )
        for row in dict.fromkeys(first)
    ]
    answered = with_time.order[(with_time.ranks > 0) & (with_time.ranks <= SHOWN)]
    times = sightings["time_s"].iloc[[ranking.query, *answered]]
    first_s, last_s = float(times.min()) - MARGIN_S, float(times.max()) + MARGIN_S
    gallery = sightings[(sightings["split"] == "gallery") & (sightings["pid"] != JUNK)]
    tracks = []
    for camid in sorted(gallery["camid"].unique().tolist()):
        seen = gallery[gallery["camid"] == camid].sort_values("time_s")
        rows = seen.index[seen["time_s"].between(first_s, last_s)].to_numpy()
        rows = rows[:: math.ceil(len(rows) / STEMS) or 1]
        tracks.append(Track(camid, seen["time_s"][rows].tolist(), factors[rows].tolist()))
    return TimeLine(crop(sightings, ranking.query), before, after, first_s, last_s, tracks, moved)


def crop(sightings: pd.DataFrame, row: int) -> Crop:
    """A row of the manifest."""
    of = sightings.iloc[row]
    time_s = None if np.isnan(of["time_s"]) else float(of["time_s"])
    return Crop(str(of["image"]), int(of["pid"]), int(of["camid"]), time_s)
