"""Compare the probabilities that a search states with the truth, on the demo's targets.

`python -m benchmarks.probabilities` prints it. A query is answered with the 100 best images of other cameras, ranked by
lifted scores. Labels are used for the figures only.
"""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.demo import labelled_targets, require_outputs
from qaconv.config import load_params
from qaconv.data.manifest import Manifest
from qaconv.matching.results import Matches
from qaconv.metrics.marked import ANSWERS, MarkedAnswers, measure_marked
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import MATCHES, ONNX, PREPARED, TLIFT
from qaconv.runtime.model import ServedModel
from qaconv.tables import as_scores, convert
from qaconv.tlift import TLiftProfile

FEWEST = 50  # answers in a bin that is printed
Row = tuple[str, ...]


def main() -> None:
    """Print the tables."""
    targets = labelled_targets()
    require_outputs((ONNX, *(folder / name for name in targets for folder in (PREPARED, MATCHES, TLIFT))))
    model = ServedModel(ONNX)
    console = Console(soft_wrap=True, highlight=False)
    for name in targets:
        stated = dict(measure(name, model))
        console.print(_table(f"{name}: answers marked as matches", _marked_rows(stated)))
        console.print(_table(f"{name}: stated probability against share of matches, per cent", _bin_rows(stated)))


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


def _marked_rows(stated: dict[str, MarkedAnswers]) -> Iterator[Row]:
    yield "probability", "threshold", "marked", "right %", "share of true matches %"
    for source, answers in stated.items():
        precision = "" if answers.precision is None else f"{100 * answers.precision:.1f}"
        yield source, f"{answers.threshold:.3f}", f"{answers.marked:,}", precision, f"{100 * answers.recall:.1f}"


def _bin_rows(stated: dict[str, MarkedAnswers]) -> Iterator[Row]:
    yield "probability", "stated", "true", "answers"
    for source, answers in stated.items():
        enough = answers.table[answers.table["answers"] >= FEWEST]
        for probability, share, count in enough[["probability", "share", "answers"]].to_numpy():
            yield source, f"{100 * probability:.1f}", f"{100 * share:.1f}", f"{count:,.0f}"


def _table(title: str, rows: Iterator[Row]) -> Table:
    table = Table(title=f"{title} (the {ANSWERS} best of each query)", title_justify="left")
    for column in next(rows):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
