"""Compare the estimates of targets without labels with the truth, on the demo's targets.

`python -m benchmarks.estimates` prints a table of searches and one of people. The estimates are made as if the demo's
targets had no labels, with their junk among the sightings. Labels are used for the true figures only. They are read
from the names that the simulation gave the images, as the pipeline has none for `street`; people come from the
simulation itself.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from qaconv.config import SiteConfig, load_params
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.identities import Edges
from qaconv.identities.summary import Summary
from qaconv.identities.truth import measure_people
from qaconv.matching.results import Matches
from qaconv.metrics.target_estimates import estimate, stated_answers
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.paths import IDENTITIES, MATCHES, PREPARED, TLIFT
from qaconv.synthetic.render import choose_crops
from qaconv.tlift import TLiftProfile

PERSON = r"/(-?\d+)_"  # in the images' names; 0 is a distractor and -1 junk
PEOPLE_COLUMNS = ("target", "identities", "people", "95 % interval", "true", "purity %", "true %")
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
    """Print the tables."""
    params = load_params()
    folders = (PREPARED, MATCHES, TLIFT, IDENTITIES)
    require_outputs([folder / name for name in params.targets for folder in folders])
    console = Console(soft_wrap=True, highlight=False)
    searches = [row for name in params.targets for row in rows(name, params.seed)]
    console.print(_table("estimates, and what the labels say", COLUMNS, ("target", "method"), searches))
    people = [count_people(name, site) for name, site in params.sites.items() if name in params.targets]
    console.print(_table("people, estimated and simulated", PEOPLE_COLUMNS, ("target",), people))


def _table(title: str, columns: Sequence[str], words: Sequence[str], body: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right")
    for row in body:
        table.add_row(*row)
    return table


def count_people(name: str, site: SiteConfig) -> tuple[str, ...]:
    """Return the row of a drawn target: people with one badly cut image count too."""
    summary = Summary.load(IDENTITIES / name / "summary.json")
    table = pd.read_parquet(IDENTITIES / name / "identities.parquet")
    person = choose_crops(site).set_index("path")["person"][table["image"]].to_numpy()
    everyone = np.ones(len(table), dtype=bool)
    identity, camid = table["identity"].to_numpy(), table["camid"].to_numpy()
    truth = measure_people(identity, camid, person, everyone, Edges.join([], [], []))
    people = summary.people
    return (
        name,
        str(summary.identities),
        f"{people.value:.0f}",
        f"{people.low:.0f} to {people.high:.0f}",
        str(truth.people),
        f"{100 * summary.quality.purity.value:.1f}",
        f"{100 * truth.purity:.1f}",
    )


def rows(name: str, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each method of a target that uses times."""
    frame = Manifest.load(PREPARED / name).sightings()
    sightings = EvaluatedSightings(frame.assign(pid=UNLABELLED), PREPARED / name)
    pids = frame["image"].str.extract(PERSON)[0].astype("int64").to_numpy()
    query, gallery = pids[: len(sightings.query), None], pids[len(sightings.query) :]
    is_match = (query == gallery) & (query > 0)
    for method in load_params().method_names:
        logits = Matches.load(name, method).logits
        profile = TLiftProfile.load(TLIFT / name / f"{method}.json")
        expected = estimate(logits, sightings, profile, seed=seed).expected
        if expected is None or expected.expected_precision is None:
            continue
        answers = enumerate(stated_answers(logits, sightings, profile))
        threshold = expected.stated_threshold
        right = np.array([np.sum(is_match[row, best] & (stated > threshold)) for row, (best, stated) in answers])
        yield (
            name,
            method,
            f"{100 * expected.share_with_match:.1f}",
            f"{100 * (right > 0).mean():.1f}",
            f"{100 * expected.expected_precision:.1f}",
            f"{100 * right.sum() / expected.marked_answers:.1f}",
            f"{expected.expected_matches:,.0f}",
            f"{right.sum():,}",
        )


if __name__ == "__main__":
    main()
