"""Measure what a search marks as matches, and how true its stated probabilities are.

Q queries, G gallery images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from qaconv.metrics.sightings import SameCamera
from qaconv.tables import Table, best_columns, row_blocks

ANSWERS = 100  # best images that a query is answered with
BINS = 10  # of equal width in the table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MarkedAnswers:
    """The answers of all queries with a probability.

    Attributes:
        threshold: probability above which an answer is marked as a match.
        marked: number of marked answers.
        right: number of right ones among them.
        matches: number of true matches in the gallery.
        table: a row for each bin that is not empty: mean probability, share of matches, its standard error, and number
            of answers.
    """

    threshold: float
    marked: int
    right: int
    matches: int
    table: pd.DataFrame

    @property
    def precision(self) -> float | None:
        """Share of right ones among the marked answers; None without any."""
        return self.right / self.marked if self.marked else None

    @property
    def recall(self) -> float:
        """Share of the true matches that are marked."""
        return self.right / self.matches


def measure_marked(
    ranking: Table,
    probabilities: Table,
    threshold: float,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    same_camera: SameCamera = "drop",
) -> MarkedAnswers:
    """Answer each query with its best images, and compare the probabilities with the pids.

    Args:
        ranking: scores by which the gallery is ranked, [Q, G].
        probabilities: stated for each pair, [Q, G].
        threshold: probability above which an answer is marked.
        query_pids: [Q].
        gallery_pids: [G].
        query_camids: [Q].
        gallery_camids: [G].
        same_camera: whether images of the query's own camera are answers. Default: "drop".

    Raises:
        ValueError: no query has a true match.
    """
    query_pids, gallery_pids = np.asarray(query_pids), np.asarray(gallery_pids)
    query_camids, gallery_camids = np.asarray(query_camids), np.asarray(gallery_camids)
    matches = 0
    stated, right, people = [], [], []
    answers = best_answers(ranking, probabilities, query_camids, gallery_camids, same_camera)
    for row, (best, their_probabilities) in enumerate(answers):
        is_match = gallery_pids == query_pids[row]
        counts = is_match if same_camera == "keep" else is_match & (gallery_camids != query_camids[row])
        matches += int(counts.sum())
        stated.append(their_probabilities)
        right.append(is_match[best])
        people.append(np.full(len(best), query_pids[row]))
    if not matches:
        raise ValueError("no query has a true match in the gallery")
    return _summarise(threshold, np.concatenate(stated), np.concatenate(right), np.concatenate(people), matches)


def best_answers(
    ranking: Table,
    probabilities: Table,
    query_camids: NDArray[Any],
    gallery_camids: NDArray[Any],
    same_camera: SameCamera,
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Yield the columns of the best images that each query is answered with, best first, and their probabilities.

    Args:
        ranking: scores by which the gallery is ranked, [Q, G].
        probabilities: stated for each pair, [Q, G].
        query_camids: [Q].
        gallery_camids: [G].
        same_camera: whether images of the query's own camera are answers.
    """
    everything = np.arange(len(gallery_camids))
    for rows in row_blocks(ranking.shape):
        for query, scores, stated in zip(query_camids[rows], ranking[rows], probabilities[rows], strict=True):
            columns = np.flatnonzero(gallery_camids != query) if same_camera == "drop" else everything
            best = columns[best_columns(scores[columns], ANSWERS)]
            yield best, stated[best]


def _summarise(
    threshold: float, stated: Floats, right: NDArray[np.bool_], people: NDArray[Any], matches: int
) -> MarkedAnswers:
    marked = stated > threshold
    bins = np.minimum((stated * BINS).astype(np.intp), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.flatnonzero(counts)
    share = np.bincount(bins, right, minlength=BINS) / np.maximum(counts, 1)
    table = pd.DataFrame(
        {
            "probability": np.bincount(bins, stated, minlength=BINS)[filled] / counts[filled],
            "share": share[filled],
            "share_error": _standard_errors(right - share[bins], bins, people)[filled] / counts[filled],
            "answers": counts[filled],
        }
    )
    return MarkedAnswers(threshold, int(marked.sum()), int(right[marked].sum()), matches, table)


def _standard_errors(deviations: Floats, bins: NDArray[np.intp], people: NDArray[Any]) -> Floats:
    """Return the standard error of each bin's sum, [BINS]; the answers to one person's queries depend on each other.

    It is the linearised one of a sample of clusters (Cochran, Sampling Techniques, 1977, 9A), with people as clusters.

    Args:
        deviations: of each answer from its bin's mean.
        bins: of each answer.
        people: that each answer's query shows.
    """
    _, person = np.unique(people, return_inverse=True)
    sums = np.bincount(person * BINS + bins, deviations, minlength=(person.max() + 1) * BINS).reshape(-1, BINS)
    errors: Floats = np.sqrt((sums**2).sum(axis=0))
    return errors
