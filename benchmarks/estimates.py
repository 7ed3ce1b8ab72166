"""Compare the estimates of targets without labels with the truth, on the demo's targets.

`python -m benchmarks.estimates` prints it. The estimates are made as if the demo's targets had no labels, with
their junk among the sightings. Labels are used for the true figures only. They are read from the names that the
simulation gave the images, as the pipeline has none for `street`.
"""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from qaconv.config import METHODS, load_params
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.matching.results import Matches
from qaconv.metrics.rankings import method_label
from qaconv.metrics.target_estimates import estimate, stated_answers
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import MATCHES, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

PERSON = r"/(-?\d+)_"  # in the images' names; 0 is a distractor and -1 junk
COLUMNS = (
    "target",
    "method",
    "searches with a match %",
    "with a right one %",
    "precision %",
    "true %",
    "matches",
    "true",
)


def main() -> None:
    """Print the table."""
    params = load_params()
    require_outputs([folder / name for name in params.targets for folder in (PREPARED, MATCHES, TLIFT)])
    table = Table(title="estimates, and what the labels say", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("target", "method") else "right")
    for name in params.targets:
        for row in rows(name, params.evaluate.parts, params.seed):
            table.add_row(*row)
    Console(soft_wrap=True, highlight=False).print(table)


def rows(name: str, parts: tuple[int, ...], seed: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each method of a target that uses times."""
    frame = Manifest.load(PREPARED / name).sightings()
    sightings = EvaluatedSightings(frame.assign(pid=UNLABELLED), PREPARED / name)
    pids = frame["image"].str.extract(PERSON)[0].astype("int64").to_numpy()
    query, gallery = pids[: len(sightings.query), None], pids[len(sightings.query) :]
    is_match = (query == gallery) & (query > 0)
    for method in METHODS:
        logits = Matches.load(name, method, parts).logits
        profile = TLiftProfile.load(TLIFT / name / f"{method}.json")
        expected = estimate(logits, sightings, profile, seed=seed).expected
        if expected is None or expected.expected_precision is None:
            continue
        answers = enumerate(stated_answers(logits, sightings, profile))
        threshold = expected.stated_threshold
        right = np.array([np.sum(is_match[row, best] & (stated > threshold)) for row, (best, stated) in answers])
        yield (
            name,
            method_label(method),
            f"{100 * expected.share_with_match:.1f}",
            f"{100 * (right > 0).mean():.1f}",
            f"{100 * expected.expected_precision:.1f}",
            f"{100 * right.sum() / expected.marked_answers:.1f}",
            f"{expected.expected_matches:,.0f}",
            f"{right.sum():,}",
        )


if __name__ == "__main__":
    main()
