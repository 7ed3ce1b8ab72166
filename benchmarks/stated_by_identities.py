"""Compare stated probabilities with the truth, as fitted and as mapped by identities.

`python -m benchmarks.stated_by_identities` prints a row for each network of `benchmarks.reviews`, with its tracks and
without, and the means. Labels are used for the figures only. Nothing was fitted on these networks. `500 540` after it
measures the seeds from 500 to 539, on which the constants of the map and the share of right ones were chosen.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from benchmarks.identities.networks import Network
from benchmarks.machine import describe
from benchmarks.people import draw
from benchmarks.probabilities import FEWEST
from benchmarks.reviews import SEEDS
from qaconv.metrics.marked import MarkedAnswers, measure_marked
from qaconv.paths import ONNX
from qaconv.runtime.model import ServedModel
from qaconv.tables import as_scores
from qaconv.tlift import TLiftProfile

ENOUGH = 0.9  # share of right ones among the marked answers that is asked for
COLUMNS = ("tracks", "network", "worst tenth", "mean tenth", "right %", "share of true matches %")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """Figures of a network's answers.

    Attributes:
        tracks: whether the sightings have tracks: yes or no.
        name: of the network.
        fitted: with the probabilities that the fit gives.
        mapped: with those that are stated.
    """

    tracks: str
    name: str
    fitted: MarkedAnswers
    mapped: MarkedAnswers

    def figures(self) -> Floats:
        """Return those of COLUMNS, in points and per cent, as fitted and as mapped, [4, 2]."""
        columns = [
            (errors.max(), errors.mean(), 100 * (answers.precision or 0.0), 100 * answers.recall)
            for answers in (self.fitted, self.mapped)
            for errors in [tenth_errors(answers)]
        ]
        return np.array(columns).T


def main() -> None:
    """Print the table."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    seeds = range(*map(int, sys.argv[1:])) if sys.argv[1:] else SEEDS
    rows = [row for seed in seeds for row in compare(draw(seed, model))]
    table = Table(*COLUMNS, title="stated probabilities: as fitted > mapped by identities", title_justify="left")
    summaries = []
    for tracks in ("yes", "no"):
        names = [row.name for row in rows if row.tracks == tracks]
        figures = np.array([row.figures() for row in rows if row.tracks == tracks])
        for name, values in zip([*names, "mean"], [*figures, figures.mean(axis=0)], strict=True):
            table.add_row(tracks, name, *(f"{fitted:.1f} > {mapped:.1f}" for fitted, mapped in values))
        nearer = (figures[:, 0, 1] < figures[:, 0, 0]).sum()
        below, least = (figures[:, 2] < 100 * ENOUGH).sum(axis=0), figures[:, 2].min(axis=0)
        summaries.append(
            f"tracks {tracks}: the worst tenth is nearer on {nearer} of {len(names)}; less than {100 * ENOUGH:.0f} % "
            f"of the marked answers are right on {below[0]} > {below[1]}, at least {least[0]:.1f} > {least[1]:.1f} %"
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)
    for summary in summaries:
        console.print(summary)


def compare(network: Network) -> Iterator[Row]:
    """Yield the figures of a network with its tracks and without; none where its times are not used."""
    for tracks, variant in (("yes", network), ("no", replace(network, sightings=network.sightings.assign(track="")))):
        if variant.fitted.match_odds:
            yield Row(tracks, network.name, *(_measure(variant, each) for each in (variant.fitted, variant.mapped)))


def tenth_errors(answers: MarkedAnswers) -> Floats:
    """Return the errors of the tenths of probabilities with FEWEST answers, in points."""
    table = answers.table[answers.table["answers"] >= FEWEST]
    errors: Floats = 100 * (table["probability"] - table["share"]).abs().to_numpy()
    return errors


def _measure(network: Network, profile: TLiftProfile) -> MarkedAnswers:
    assert profile.match_odds
    is_query = (network.sightings["split"] == "query").to_numpy()
    query, gallery = network.sightings[is_query], network.sightings[~is_query]
    places = [part[name].to_numpy() for part in (query, gallery) for name in ("camid", "time_s")]
    scores = as_scores(network.logits[np.ix_(is_query, ~is_query)])
    stated = profile.stated(scores, *places)
    identities = query["pid"], gallery["pid"], query["camid"], gallery["camid"]
    return measure_marked(profile.lifted(scores, *places), stated, profile.match_odds.threshold, *identities)


if __name__ == "__main__":
    main()
