"""Compare what is estimated of people without labels with the truth, on networks drawn for it.

`python -m benchmarks.people` prints a row for each figure. The constants of `qaconv.identities` were fitted on networks
of the seeds 500 to 519; those of this table were only measured. Labels are used for the true figures only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from benchmarks.identities.networks import Network, draw_network
from benchmarks.machine import describe
from qaconv.config import SiteConfig, TrackerConfig
from qaconv.identities import identify
from qaconv.identities.people import summarise
from qaconv.identities.summary import Interval
from qaconv.identities.truth import measure_people
from qaconv.paths import ONNX
from qaconv.runtime.model import ServedModel

SEEDS = range(520, 530)
TRACKER = TrackerConfig(breaks=0.1, switches=0.02, missed=0.05)
COLUMNS = ("tracks", "figure", "mean error", "root mean square", "within", "interval holds", "width")


@dataclass(frozen=True)
class Comparison:
    """An estimate and the truth; errors and widths of people are shares of their number.

    Attributes:
        figure: name.
        error: estimate less truth.
        holds: whether the interval holds the truth.
        width: of the interval.
        allowed: error that is asked for.
    """

    figure: str
    error: float
    holds: bool
    width: float
    allowed: float


def main() -> None:
    """Print the table."""
    require_outputs([ONNX])
    model = ServedModel(ONNX)
    table = Table(*COLUMNS, title=f"{len(SEEDS)} drawn networks", title_justify="left")
    rows = [row for seed in SEEDS for row in _rows(draw(seed, model))]
    for (tracks, figure), group in pd.DataFrame(rows).groupby(["tracks", "figure"], sort=False):
        error, allowed = group["error"], float(group["allowed"].iloc[0])
        table.add_row(
            str(tracks),
            str(figure),
            f"{100 * error.mean():+.1f} %",
            f"{100 * float(np.sqrt((error**2).mean())):.1f} %",
            f"{int((error.abs() <= allowed).sum())} of {len(group)} in {100 * allowed:.0f} %",
            f"{int(group['holds'].sum())} of {len(group)}",
            f"{100 * group['width'].mean():.1f} %",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)


def _rows(network: Network) -> Iterator[dict[str, Any]]:
    """Yield the comparisons of a network, with its tracks and without."""
    without = replace(network, sightings=network.sightings.assign(track=""))
    for tracks, variant in (("yes", network), ("no", without)):
        for comparison in compare(variant):
            yield {"tracks": tracks, **vars(comparison)}


def draw(seed: int, model: ServedModel) -> Network:
    """Draw a network of 4 to 6 cameras and 50 to 150 people."""
    rng = np.random.default_rng([seed, 77])
    cameras, people, distractors = (int(rng.integers(*bounds)) for bounds in ((4, 7), (40, 91), (10, 61)))
    site = SiteConfig(seed=seed, cameras=cameras, people=people, distractors=distractors, junk=0, tracks=TRACKER)
    return draw_network(f"drawn {seed}", site, model)


def compare(network: Network) -> Iterator[Comparison]:
    """Yield each estimate of a network with the truth."""
    edges = network.edges()
    identities = identify(network.sightings, edges)
    camid = network.sightings["camid"].to_numpy()
    person = network.sightings["person"].to_numpy()
    truth = measure_people(identities.identity, camid, person, np.ones(len(person), dtype=bool), edges)
    summary = summarise(network.sightings, identities, edges, time_used=True)
    yield _compare("people", summary.people, truth.people, 0.05, unit=truth.people)
    for row in summary.quality.precision:
        yield _compare(f"precision above {row.threshold:g}", row, truth.precision[row.threshold], 0.03)
    yield _compare("found", summary.quality.found, truth.found, 0.03)
    yield _compare("purity", summary.quality.purity, truth.purity, 0.03)


def _compare(figure: str, estimate: Interval, truth: float, allowed: float, unit: float = 1.0) -> Comparison:
    holds = estimate.low <= truth <= estimate.high
    return Comparison(figure, (estimate.value - truth) / unit, holds, (estimate.high - estimate.low) / unit, allowed)


if __name__ == "__main__":
    main()
