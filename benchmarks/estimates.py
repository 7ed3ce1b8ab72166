"""Compare the estimates of the demo's target without labels with the truth.

`python -m benchmarks.estimates` prints it. The pipeline does not know who is on these images. Only this program reads
it, from the names that the simulation gave them.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from benchmarks.demo import require_outputs
from qaconv.config import METHODS, load_params
from qaconv.data.manifest import Manifest
from qaconv.matching.results import Matches
from qaconv.metrics.estimates_file import TargetEstimates, load_target
from qaconv.metrics.marked import ANSWERS, measure_marked
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import MATCHES, METRICS, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

PERSON = re.compile(r"(-?\d+)_c\d+s\d+_")  # of the file names of synthetic sites; -1 and 0 are no one person


def main() -> None:
    """Print a table for each target that has estimates."""
    params = load_params()
    unlabelled = [
        name for name in params.targets if (PREPARED / name).is_dir() and not Manifest.load(PREPARED / name).is_labelled
    ]
    require_outputs(folder / name for name in unlabelled for folder in (PREPARED, MATCHES, TLIFT))
    console = Console(soft_wrap=True, highlight=False)
    for name in unlabelled:
        estimates = load_target(METRICS / f"{name}.json")
        assert isinstance(estimates, TargetEstimates)
        table = Table(
            title=f"{name}: {estimates.searches} searches, their {ANSWERS} best answers each", title_justify="left"
        )
        for column in ("method", "figure", "estimated without labels", "true"):
            table.add_column(column, justify="left" if column in ("method", "figure") else "right")
        for method in METHODS:
            for row in compare(name, method, estimates, params.evaluate.parts):
                table.add_row(method, *row)
        console.print(table)


def compare(target: str, method: str, estimates: TargetEstimates, parts: Sequence[int]) -> list[tuple[str, str, str]]:
    """Return figure, estimate and truth of one method."""
    expected = estimates.methods[method].expected
    if expected is None:
        return [("matches", "not estimated", "")]
    manifest = Manifest.load(PREPARED / target)
    sightings = EvaluatedSightings(manifest.frame, PREPARED / target)
    matches = Matches.load(target, method, parts)
    profile = TLiftProfile.load(TLIFT / target / f"{method}.json", model=matches.model)
    query, gallery = sightings.query, sightings.gallery
    scores = expit(sightings.logits(matches.logits).astype(np.float64))
    places = query["camid"], query["time_s"], gallery["camid"], gallery["time_s"]
    stated = profile.probabilities(scores, *places)
    assert stated is not None
    people = _people(query["image"], first=-1), _people(gallery["image"], first=-1 - len(query))
    answers = measure_marked(
        profile.lift(scores, *places), stated, expected.stated_threshold, *people, query["camid"], gallery["camid"]
    )
    precision = answers.precision or 0.0
    return [
        ("answers marked as matches", f"{expected.marked_answers:,}", f"{answers.marked:,}"),
        ("right ones among them", f"{expected.expected_matches:,.0f}", f"{precision * answers.marked:,.0f}"),
        ("share of right ones", f"{100 * (expected.expected_precision or 0):.1f} %", f"{100 * precision:.1f} %"),
        ("true matches that are marked", "not estimated", f"{100 * answers.recall:.1f} %"),
    ]


def _people(images: "pd.Series[str]", first: int) -> NDArray[np.int64]:
    """Return the person on each image, [N]; images of no one person get numbers of their own, from `first` down."""
    names = images.str.extract(PERSON)[0].astype("int64").to_numpy()
    return np.where(names > 0, names, first - np.arange(len(names)))


if __name__ == "__main__":
    main()
