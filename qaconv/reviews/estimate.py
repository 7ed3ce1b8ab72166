"""Estimate the precision and the recall of marked matches from people's answers to a stratified sample of pairs.

A cell holds the pairs of one stratum that are marked as matches, or those that are not.

The values are the stratified estimates: in each cell the share of "same" among the answers, times the cell's pairs
(Horvitz & Thompson, 1952, with equal chances within a stratum). A cell without an answer counts as stated.

The intervals come from draws of what the pairs without an answer are. The share in a cell is drawn from its posterior.
Its prior is a normal distribution of the log odds around the stated ones, with the deviation DOUBT. An answered pair is
known, so a cell that is answered completely adds no width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_expit, logit

DOUBT = 2.0  # deviation of the true log odds of a cell from the stated ones
DRAWS = 4000
CONFIDENCE = 0.95
GRID = np.linspace(-15.0, 15.0, 601)  # log odds at which a posterior is computed
CLIP = 1e-6  # stated probabilities are kept this far from 0 and 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """Pairs of one stratum that are all marked as matches, or all not.

    Attributes:
        stratum: its name.
        marked: whether its pairs are marked as matches.
        pairs: their number; of a stratum with two cells estimated from its answers.
        stated: mean of their stated probabilities.
        answers: number of pairs that are answered.
        same: answers that both show one person; a pair on which reviewers disagree counts by their shares.
    """

    stratum: str
    marked: bool
    pairs: float
    stated: float
    answers: int
    same: float

    @property
    def matches(self) -> float:
        """Estimated number of its pairs that show one person."""
        return self.pairs * (self.same / self.answers if self.answers else self.stated)


@dataclass(frozen=True)
class Figure:
    """A share and its 95 per cent interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ReviewedMatches:
    """What the answers say of the candidate pairs.

    Attributes:
        precision: share of pairs of one person among the marked ones; None where none is marked.
        recall: share of marked ones among the pairs of one person; None where no pair shows one person.
        answers: number of answered pairs.
    """

    precision: Figure | None
    recall: Figure | None
    answers: int


def group_cells(pairs: pd.DataFrame) -> list[Cell]:
    """Group pairs by stratum and by whether they are marked.

    Args:
        pairs: columns stratum, marked, stated (probability) and same: the share of reviewers who saw one person, NaN
            where nobody answered. They are all candidate pairs; or, with the column stratum_pairs (number of candidate
            pairs in the stratum), the answered ones, which stand for the others.
    """
    cells = []
    for (stratum, marked), cell in pairs.groupby(["stratum", "marked"], sort=True):
        count = float(len(cell))
        if "stratum_pairs" in cell:
            of_stratum = int((pairs["stratum"] == stratum).sum())
            count *= float(cell["stratum_pairs"].iloc[0]) / of_stratum
        answers = int(cell["same"].notna().sum())
        stated = float(cell["stated"].mean())
        cells.append(Cell(str(stratum), bool(marked), count, stated, answers, float(cell["same"].sum())))
    return cells


def estimate_matches(cells: Sequence[Cell], *, seed: int = 0) -> ReviewedMatches:
    """Estimate precision and recall of the marked pairs among all candidate pairs.

    Args:
        cells: of all strata.
        seed: of the draws. Default: 0, so that the same answers give the same intervals.
    """
    rng = np.random.default_rng(seed)
    pairs = _draw_pairs(cells, rng)
    matches = np.array([_draw_matches(cell, count, rng) for cell, count in zip(cells, pairs, strict=True)])
    marked = np.array([cell.marked for cell in cells], dtype=bool)
    sizes = np.array([cell.pairs for cell in cells])
    values = np.array([cell.matches for cell in cells])
    return ReviewedMatches(
        precision=_share(values[marked], sizes[marked], matches[marked], pairs[marked]),
        recall=_share(values[marked], values, matches[marked], matches),
        answers=sum(cell.answers for cell in cells),
    )


def _draw_pairs(cells: Sequence[Cell], rng: np.random.Generator) -> Floats:
    """Draw the number of pairs of each of C cells, [C, DRAWS]; that of a stratum with one cell is known."""
    pairs = np.array([np.full(DRAWS, cell.pairs) for cell in cells]).reshape(len(cells), DRAWS)
    for row, cell in enumerate(cells):
        for column, other in enumerate(cells[:row]):
            if other.stratum == cell.stratum and other.answers and cell.answers:
                share = rng.beta(cell.answers, other.answers, DRAWS)
                pairs[row] = (cell.pairs + other.pairs) * share
                pairs[column] = (cell.pairs + other.pairs) * (1 - share)
    return pairs


def _draw_matches(cell: Cell, pairs: Floats, rng: np.random.Generator) -> Floats:
    """Draw the number of pairs of one person in a cell, [DRAWS]."""
    prior = -0.5 * ((GRID - logit(np.clip(cell.stated, CLIP, 1 - CLIP))) / DOUBT) ** 2
    likelihood = cell.same * log_expit(GRID) + (cell.answers - cell.same) * log_expit(-GRID)
    weights = np.exp(prior + likelihood - (prior + likelihood).max())
    log_odds = rng.choice(GRID, size=DRAWS, p=weights / weights.sum())
    unknown = np.maximum(np.rint(pairs).astype(np.int64) - cell.answers, 0)
    drawn: Floats = cell.same + rng.binomial(unknown, np.exp(log_expit(log_odds)))
    return drawn


def _share(part: Floats, whole: Floats, drawn_part: Floats, drawn_whole: Floats) -> Figure | None:
    """Return the sum of `part` over that of `whole`, with the interval of the draws; None where the whole is 0."""
    if not whole.sum():
        return None
    value = float(part.sum() / whole.sum())
    draws = drawn_part.sum(axis=0) / np.maximum(drawn_whole.sum(axis=0), CLIP)
    low, high = np.quantile(np.minimum(draws, 1.0), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(value, min(float(low), value), max(float(high), value))
