"""Compare the probabilities that a search states with the truth.

`python -m benchmarks.probabilities` prints it for the demo's targets, `python -m benchmarks.probabilities drawn` for
larger networks that are drawn for it. A query is answered with the 100 best images of other cameras, ranked by lifted
scores. Labels are used for the figures only.
"""

import sys
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.demo import labelled_targets, require_outputs
from benchmarks.identities.networks import draw_network
from qaconv.config import SiteConfig, load_params
from qaconv.data.manifest import Manifest
from qaconv.matching.results import Matches
from qaconv.metrics.marked import ANSWERS, MarkedAnswers, measure_marked
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import MATCHES, ONNX, PREPARED, TLIFT
from qaconv.runtime.model import ServedModel
from qaconv.tables import as_scores, convert
from qaconv.tlift import TLiftProfile

FEWEST = 50  # answers in a bin that is printed
SEEDS = (600, 601, 602)
Row = tuple[str, ...]
Stated = dict[str, MarkedAnswers]  # by the source of the probabilities


def main() -> None:
    """Print the tables."""
    console = Console(soft_wrap=True, highlight=False)
    for name, stated in measure_drawn() if sys.argv[1:] == ["drawn"] else measure_targets():
        console.print(_table(f"{name}: answers marked as matches", _marked_rows(stated)))
        console.print(_table(f"{name}: stated probability against share of matches, per cent", _bin_rows(stated)))


def measure_targets() -> Iterator[tuple[str, Stated]]:
    """Yield each of the demo's targets with its answers."""
    targets = labelled_targets()
    require_outputs((ONNX, *(folder / name for name in targets for folder in (PREPARED, MATCHES, TLIFT))))
    model = ServedModel(ONNX)
    for name in targets:
        yield name, dict(measure(name, model))


def measure_drawn() -> Iterator[tuple[str, Stated]]:
    """Yield drawn networks with their answers."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    for seed in SEEDS:
        site = SiteConfig(seed=seed, cameras=4 + seed % 3, people=400, distractors=200, junk=100)
        network = draw_network(f"drawn {seed}", site, model)
        is_query = (network.sightings["split"] == "query").to_numpy()
        query, gallery = network.sightings[is_query], network.sightings[~is_query]
        places = [column.to_numpy() for part in (query, gallery) for column in (part["camid"], part["time_s"])]
        scores = as_scores(network.logits[np.ix_(is_query, ~is_query)])
        pids, camids = (query["pid"], gallery["pid"]), (query["camid"], gallery["camid"])
        profile = network.profile
        if profile.match_odds is None:
            raise SystemExit(f"{network.name}: {profile.reason}")
        lifted, stated = profile.lifted(scores, *places), profile.stated(scores, *places)
        answers = measure_marked(lifted, stated, profile.match_odds.threshold, *pids, *camids)
        yield network.name, {"target": answers}


def measure(name: str, model: ServedModel) -> Iterator[tuple[str, MarkedAnswers]]:
    """Yield the answers with the probabilities of the target, and with those at even odds."""
    sightings = EvaluatedSightings(Manifest.load(PREPARED / name).frame, PREPARED / name)
    method = load_params().registry.method
    logits = sightings.logits(Matches.load(name, method).logits)
    profile = TLiftProfile.load(TLIFT / name / f"{method}.json")
    scores = as_scores(logits)
    lifted = profile.lifted(scores, *sightings.places)
    identities = sightings.identities
    if profile.match_odds is not None:
        probabilities = profile.stated(scores, *sightings.places)
        yield "target", measure_marked(lifted, probabilities, profile.match_odds.threshold, *identities)
    at_even_odds = convert(logits, model.probability, np.float64)
    yield "even odds", measure_marked(lifted, at_even_odds, model.threshold, *identities)


def _marked_rows(stated: Stated) -> Iterator[Row]:
    yield "probability", "threshold", "marked", "right %", "share of true matches %"
    for source, answers in stated.items():
        precision = "" if answers.precision is None else f"{100 * answers.precision:.1f}"
        yield source, f"{answers.threshold:.3f}", f"{answers.marked:,}", precision, f"{100 * answers.recall:.1f}"


def _bin_rows(stated: Stated) -> Iterator[Row]:
    yield "probability", "stated", "true", "standard error", "answers"
    for source, answers in stated.items():
        enough = answers.table[answers.table["answers"] >= FEWEST]
        for probability, share, error, count in enough.to_numpy():
            yield source, f"{100 * probability:.1f}", f"{100 * share:.1f}", f"{100 * error:.1f}", f"{count:,.0f}"


def _table(title: str, rows: Iterator[Row]) -> Table:
    table = Table(title=f"{title} (the {ANSWERS} best of each query)", title_justify="left")
    for column in next(rows):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
