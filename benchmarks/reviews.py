"""Compare what is stated of marked pairs, and what a hundred answers say of them, with the truth.

`python -m benchmarks.reviews` prints rows for each network that is drawn for it, and a summary. Candidate pairs are
those that the service asks about: the most probable ones of up to 200 sightings. The simulation answers, so that every
answer is right. Nothing was fitted on these networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from benchmarks.demo import require_outputs
from benchmarks.identities.networks import Network
from benchmarks.machine import describe
from benchmarks.people import draw
from qaconv.paths import ONNX
from qaconv.reviews.estimate import Figure, ReviewedMatches, estimate_matches, group_cells
from qaconv.reviews.sample import CANDIDATES, SEARCHES, draw_sample
from qaconv.runtime.model import ServedModel

SEEDS = range(540, 550)
ANSWERS = 100
SAMPLES = 20  # of each network
ALLOWED = 0.03  # error of a stated share that is asked for
FIGURES = ("precision", "recall")
COLUMNS = ("network", "figure", "stated %", "true %", "interval", "holds", "answered: mean error", "holds", "width")


@dataclass(frozen=True)
class Comparison:
    """A share of the marked pairs of a network, as stated and as answered, with the truth.

    Attributes:
        network: name.
        figure: one of FIGURES.
        truth: the share.
        stated: without answers.
        answered: by ANSWERS answers, of each of SAMPLES.
    """

    network: str
    figure: str
    truth: float
    stated: Figure
    answered: list[Figure]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Answered share less truth, [SAMPLES]."""
        return np.array([figure.value - self.truth for figure in self.answered])

    @property
    def held(self) -> int:
        """Number of samples whose intervals hold the truth."""
        return sum(_holds(figure, self.truth) for figure in self.answered)

    @property
    def width(self) -> float:
        """Mean width of an answered interval in those of the stated one."""
        return float(np.mean([_width(figure) for figure in self.answered])) / _width(self.stated)


def main() -> None:
    """Print the table and the summary."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    comparisons = [row for seed in SEEDS for row in compare(draw(seed, model))]
    table = Table(*COLUMNS, title=f"{ANSWERS} answers, {SAMPLES} samples of each network", title_justify="left")
    for row in comparisons:
        table.add_row(
            row.network,
            row.figure,
            f"{100 * row.stated.value:.1f}",
            f"{100 * row.truth:.1f}",
            f"{100 * row.stated.low:.1f} to {100 * row.stated.high:.1f}",
            "yes" if _holds(row.stated, row.truth) else "no",
            f"{100 * row.errors.mean():+.1f}",
            f"{row.held} of {SAMPLES}",
            f"{row.width:.2f}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)
    for figure in FIGURES:
        console.print(_summary(figure, [row for row in comparisons if row.figure == figure]))


def _summary(figure: str, rows: list[Comparison]) -> str:
    near = sum(abs(row.stated.value - row.truth) <= ALLOWED for row in rows)
    held = sum(_holds(row.stated, row.truth) for row in rows)
    return (
        f"{figure}: stated within {100 * ALLOWED:.0f} points on {near} of {len(rows)}, its interval holds on {held}; "
        f"answered intervals hold in {100 * sum(row.held for row in rows) / (SAMPLES * len(rows)):.0f} % and are "
        f"{np.mean([row.width for row in rows]):.2f} times as wide, at most {max(row.width for row in rows):.2f}"
    )


def compare(network: Network) -> Iterator[Comparison]:
    """Yield the comparisons of a network."""
    odds = network.profile.match_odds
    if odds is None:
        raise SystemExit(f"{network.name}: {network.profile.reason}")
    pairs = candidate_pairs(network)
    marked = (pairs["stated"] > odds.threshold).to_numpy()
    same = pairs["same"].to_numpy()
    truths = {"precision": same[marked].mean(), "recall": same[marked].sum() / same.sum()}
    pairs["marked"] = marked
    made = [_review(pairs, odds.threshold, ANSWERS, seed) for seed in range(SAMPLES)]
    stated = _review(pairs, odds.threshold, 0, 0)
    for figure, truth in truths.items():
        yield Comparison(
            network.name, figure, float(truth), _figure(stated, figure), [_figure(one, figure) for one in made]
        )


def candidate_pairs(network: Network) -> pd.DataFrame:
    """Return the candidate pairs of a network: stated probability, and whether both show one person, 1 or 0."""
    sightings = network.sightings
    camid, time, person = (sightings[name].to_numpy() for name in ("camid", "time_s", "person"))
    rows = np.random.default_rng(0).permutation(len(sightings))[:SEARCHES]
    scores = expit(network.logits[rows].astype(np.float64))
    stated = network.profile.probabilities(scores, camid[rows], time[rows], camid, time)
    assert stated is not None
    stated[camid[rows][:, None] == camid] = -1
    best = np.argsort(-stated, axis=1, kind="stable")[:, :CANDIDATES]
    one, other = np.repeat(rows, CANDIDATES), best.ravel()
    _, once = np.unique(np.sort([one, other], axis=0), axis=1, return_index=True)
    same = (person[one] == person[other]).astype(np.float64)
    return pd.DataFrame({"stated": np.take_along_axis(stated, best, axis=1).ravel(), "same": same}).iloc[once]


def _review(pairs: pd.DataFrame, threshold: float, answers: int, seed: int) -> ReviewedMatches:
    """Answer the first pairs of a sample, and estimate."""
    sample = draw_sample(pairs["stated"], threshold, seed=seed)
    asked = np.zeros(len(pairs), dtype=bool)
    asked[sample.order[:answers]] = True
    return estimate_matches(group_cells(pairs.assign(stratum=sample.names(), same=pairs["same"].where(asked))))


def _figure(matches: ReviewedMatches, name: str) -> Figure:
    figure = matches.precision if name == "precision" else matches.recall
    assert figure is not None, "a network must have marked pairs"
    return figure


def _holds(figure: Figure, truth: float) -> bool:
    return figure.low <= truth <= figure.high


def _width(figure: Figure) -> float:
    return figure.high - figure.low


if __name__ == "__main__":
    main()
