"""Compare stated probabilities with the truth, as fitted and as mapped by identities.

`python -m benchmarks.stated_by_identities` prints a row for each network of `benchmarks.reviews`, with its tracks and
without, and the means. Labels are used for the figures only. Nothing was fitted on these networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
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
COLUMNS = (
    "tracks",
    "network",
    "worst tenth: fitted",
    "mapped",
    "mean tenth: fitted",
    "mapped",
    "right %: fitted",
    "mapped",
    "share of true matches %: fitted",
    "mapped",
)


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

    def figures(self) -> list[float]:
        """Return the figures of COLUMNS, in points and per cent."""
        pairs = [
            (float(errors.max()), float(errors.mean()), 100 * (answers.precision or np.nan), 100 * answers.recall)
            for answers in (self.fitted, self.mapped)
            for errors in [tenth_errors(answers)]
        ]
        return [value for pair in zip(*pairs, strict=True) for value in pair]


def main() -> None:
    """Print the table."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    rows = sorted((row for seed in SEEDS for row in compare(draw(seed, model))), key=lambda row: row.tracks)
    table = Table(*COLUMNS, title="stated probabilities, mapped by identities", title_justify="left")
    console = Console(soft_wrap=True, highlight=False)
    summaries = []
    for tracks in ("yes", "no"):
        chosen = [row for row in rows if row.tracks == tracks]
        figures = np.array([row.figures() for row in chosen])
        for row, values in zip([*(row.name for row in chosen), "mean"], [*figures, figures.mean(axis=0)], strict=True):
            table.add_row(tracks, row, *(f"{value:.1f}" for value in values))
        below = (figures[:, 4:6] < 100 * ENOUGH).sum(axis=0)
        nearer = int((figures[:, 1] < figures[:, 0]).sum())
        summaries.append(
            f"tracks {tracks}: the worst tenth is nearer on {nearer} of {len(chosen)}; less than {100 * ENOUGH:.0f} % "
            f"of the marked answers are right on {below[0]} as fitted, on {below[1]} as mapped"
        )
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)
    for summary in summaries:
        console.print(summary)


def compare(network: Network) -> Iterator[Row]:
    """Yield the figures of a network with its tracks and without."""
    for tracks, variant in (("yes", network), ("no", replace(network, sightings=network.sightings.assign(track="")))):
        yield Row(tracks, network.name, *(_measure(variant, profile) for profile in (variant.fitted, variant.profile)))


def tenth_errors(answers: MarkedAnswers) -> np.ndarray:
    """Return the errors of the tenths of probabilities with FEWEST answers, in points."""
    table = answers.table[answers.table["answers"] >= FEWEST]
    errors: np.ndarray = 100 * (table["probability"] - table["share"]).abs().to_numpy()
    return errors


def _measure(network: Network, profile: TLiftProfile) -> MarkedAnswers:
    if profile.match_odds is None:
        raise SystemExit(f"{network.name}: {profile.reason}")
    is_query = (network.sightings["split"] == "query").to_numpy()
    query, gallery = network.sightings[is_query], network.sightings[~is_query]
    places = [part[name].to_numpy() for part in (query, gallery) for name in ("camid", "time_s")]
    scores = as_scores(network.logits[np.ix_(is_query, ~is_query)])
    stated = profile.stated(scores, *places)
    identities = query["pid"], gallery["pid"], query["camid"], gallery["camid"]
    return measure_marked(profile.lifted(scores, *places), stated, profile.match_odds.threshold, *identities)


if __name__ == "__main__":
    main()
