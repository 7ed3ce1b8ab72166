"""Ask people about pairs of sightings, keep their answers, and estimate by them what the active version finds.

Every method may be called from any thread. An answer is on disk before it is acknowledged.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from qaconv.reviews.estimate import Cell, ReviewedMatches, estimate_matches, group_cells
from qaconv.reviews.recalibration import Recalibration, fit_recalibration
from qaconv.reviews.sample import SEARCHES, SHARED_EVERY, draw_sample
from qaconv.reviews.table import Verdict
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.places import NotFound
from qaconv.serving.reviews.pairs import find_candidates, state_pair
from qaconv.serving.reviews.store import Draw, Review, ScoredPair, Source
from qaconv.serving.service import Service
from qaconv.serving.storage import Sighting

GROWTH = 2  # times as many sightings as at the draw: another sample is drawn


class Answered(NamedTuple):
    """A person's answer about a pair of sightings.

    Attributes:
        first: id of a sighting.
        second: id of another.
        answer: "same", "different" or "cannot tell".
    """

    first: int
    second: int
    answer: Verdict


class Asked(NamedTuple):
    """Two sightings that a person is asked about."""

    first: Sighting
    second: Sighting


@dataclass(frozen=True)
class Task:
    """What a person is asked next.

    Attributes:
        draw: the sample.
        candidates: number of its pairs.
        answered: number of its pairs that somebody answered.
        answered_by_reviewer: number of its pairs that this person answered.
        pairs: to show next, in order.
    """

    draw: Draw
    candidates: int
    answered: int
    answered_by_reviewer: int
    pairs: list[Asked]


@dataclass(frozen=True)
class Estimates:
    """What a sample's answers say.

    Attributes:
        draw: the sample.
        cells: its strata.
        stated: what the version states itself, without answers.
        reviewed: what the answers say.
        recalibration: of the stated probabilities, by the answers.
        cannot_tell: number of pairs that nobody could tell.
        disputed: number of the target's pairs on which two people contradict each other.
    """

    draw: Draw
    cells: list[Cell]
    stated: ReviewedMatches
    reviewed: ReviewedMatches
    recalibration: Recalibration
    cannot_tell: int
    disputed: int


class Reviews:
    """The reviews of a service's targets.

    Args:
        service: whose sightings, and active version.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._drawing = service.records.lock("drawing")  # held while a sample is drawn

    def next(self, target: str, reviewer: str, limit: int) -> Task:
        """Return the next pairs of the sample that this person is asked about.

        Every person is asked about each SHARED_EVERY-th pair; of the others, those that nobody has answered.

        Raises:
            NotFound: unknown target.
        """
        draw = self._sample(target)
        pairs = self._service.reviews.pairs(draw.draw)
        answers = self._service.reviews.of_draw(draw.draw)
        answered = {(first, second) for first, second, _, _ in answers}
        by_reviewer = {(first, second) for first, second, name, _ in answers if name == reviewer}
        remaining = (
            pair
            for turn, pair in pairs
            if (pair.first, pair.second) not in (by_reviewer if turn % SHARED_EVERY == 0 else answered)
        )
        return Task(
            draw, len(pairs), len(answered), len(by_reviewer), list(islice(self._show(remaining, target), limit))
        )

    def answer(self, target: str, answers: Sequence[Answered], reviewer: str, source: Source) -> None:
        """Store a person's answers, all or none.

        Raises:
            NotFound: the target has no such sighting, a pair is one sighting twice, or, from the source "sample", no
                sample has the pair.
        """
        active = self._service.active
        active.find(target)
        self._service.reviews.store(
            target,
            [(answer.answer, *self._state(active, target, answer, source)) for answer in answers],
            reviewer,
            self._service.clock.now(),
            source,
        )

    def page(
        self, target: str, after: int, limit: int, *, disputed: bool
    ) -> list[tuple[Review, int | None, float | None]]:
        """Return answers with ids above `after`, each with its stratum's number of pairs and its sampling weight.

        Both are None for pairs that were not drawn; the weight also while nobody could tell a pair of the stratum.
        """
        self._service.active.find(target)
        strata = self._service.reviews.count_strata(target)
        rows = []
        for review in self._service.reviews.page(target, after, limit, disputed=disputed):
            pairs, answered = strata.get((review.draw or 0, review.stratum or ""), (None, 0))
            rows.append((review, pairs, pairs / answered if pairs and answered else None))
        return rows

    def estimate(self, target: str) -> Estimates:
        """Estimate precision and recall of the matches that the sample's version marks.

        Raises:
            NotFound: unknown target.
        """
        draw = self._sample(target)
        table = self._table(draw)
        unanswered = table.assign(same=np.nan)
        answered = table[table["same"].notna()]
        cells = group_cells(table)
        weights = answered["stratum"].map(table.groupby("stratum").size() / answered.groupby("stratum").size())
        return Estimates(
            draw=draw,
            cells=cells,
            stated=estimate_matches(group_cells(unanswered)),
            reviewed=estimate_matches(cells),
            recalibration=fit_recalibration(answered["stated"], answered["same"], weights),
            cannot_tell=int(((table["answers"] > 0) & table["same"].isna()).sum()),
            disputed=self._service.reviews.count_disputed(target),
        )

    def _table(self, draw: Draw) -> pd.DataFrame:
        """Return all pairs of a sample: stratum, marked, stated, same (NaN where nobody could tell) and answers."""
        answers_of: dict[tuple[int, int], list[Verdict]] = {}
        for first, second, _, answer in self._service.reviews.of_draw(draw.draw):
            answers_of.setdefault((first, second), []).append(answer)
        rows = []
        for _, pair in self._service.reviews.pairs(draw.draw):
            answers = answers_of.get((pair.first, pair.second), [])
            same, different = answers.count("same"), answers.count("different")
            share = same / (same + different) if same + different else np.nan
            marked = pair.probability > draw.threshold
            rows.append((pair.stratum, marked, pair.probability, share, len(answers)))
        return pd.DataFrame(rows, columns=["stratum", "marked", "stated", "same", "answers"])

    def _sample(self, target: str) -> Draw:
        """Return the sample of the active version, which is drawn if there is none, or if the gallery has grown."""
        active = self._service.active
        gallery, _ = active.find(target)
        with self._drawing:
            draw = self._service.reviews.last_draw(target)
            if draw and draw.version == active.version and len(gallery) < GROWTH * max(draw.sightings, 1):
                return draw
            number = draw.draw + 1 if draw else 1
            threshold, _ = active.model.threshold_of(target)
            ids = self._service.reviews.sightings(target)
            drawn = np.random.default_rng(number).permutation(ids)[:SEARCHES].tolist()
            pairs = find_candidates(self._service.records, active, target, drawn, self._service.settings.shortlist)
            sample = draw_sample([pair.probability for pair in pairs], threshold, seed=number)
            names = sample.names()
            ordered = [replace(pairs[position], stratum=names[position]) for position in sample.order]
            return self._service.reviews.add_draw(target, active.version, threshold, len(gallery), ordered)

    def _state(self, active: ActiveVersion, target: str, answer: Answered, source: Source) -> tuple[ScoredPair, Draw]:
        """Return an answer's pair as it was drawn, or as the active version states it."""
        first, second = sorted((answer.first, answer.second))
        if first == second:
            raise NotFound(f"first and second must be two sightings, got {first} twice")
        stored = [self._service.sighting(target, sighting) for sighting in (first, second)]
        if source == "sample":
            drawn = self._service.reviews.find_drawn(target, first, second)
            if drawn is None:
                raise NotFound(f"no sample of {target} has the pair {first}, {second}; ask for the next pairs")
            return drawn
        return state_pair(self._service.records, active, target, *stored)

    def _show(self, pairs: Iterable[ScoredPair], target: str) -> Iterator[Asked]:
        """Yield the sightings of pairs, without those that are deleted meanwhile."""
        for pair in pairs:
            try:
                yield Asked(*(self._service.sighting(target, sighting) for sighting in (pair.first, pair.second)))
            except NotFound:
                continue
