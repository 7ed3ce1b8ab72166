"""Print how well rules group sightings into identities, on networks drawn for it and on labelled targets.

Labels measure, and choose the settings of the plain rules, so that these are as strong as labels can make them. The
demo's model has trained on none of these people. The settings of `identify` were chosen on drawn networks; `station`,
`mall` and the targets of a folder are reported only.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import expit

from benchmarks.demo import require_outputs
from benchmarks.identities.candidates import candidates
from benchmarks.identities.networks import Network, draw_network, load_folder, load_target
from benchmarks.identities.plain import plain_rules
from benchmarks.machine import describe
from qaconv.config import SiteConfig, TrackerConfig, load_params
from qaconv.identities import identify
from qaconv.matching.results import as_distances
from qaconv.paths import FEATURES, MODELS, ONNX, PREPARED
from qaconv.runtime.model import ServedModel
from qaconv.runtime.tracks import number_tracks

TRACKER = TrackerConfig(breaks=0.1, switches=0.02, missed=0.0)
DRAWN = {
    f"drawn {seed}": SiteConfig(seed=seed, cameras=5, people=90, distractors=60, junk=40, tracks=TRACKER)
    for seed in (301, 302, 303)
}
REPORTED = ("station", "mall")
COLUMNS = ("rule", "times", "B-cubed P", "R", "F1", "pairwise F1", "IDF1", "identities", "people")

Ints = NDArray[np.int64]
Row = tuple[str, str, Ints]  # rule, whether times are used, identity of each sighting


def main(names: list[str]) -> None:
    """Print a table for each network: the drawn ones and REPORTED, or the named targets and folders."""
    console = Console(width=150, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    for network in _networks(names):
        table = Table(*COLUMNS, title=f"{network.name}: {len(network.known)} sightings", title_justify="left")
        for rule, times, identity in rows(network):
            metrics = network.measure(identity)
            shares = (*metrics.b_cubed, metrics.b_cubed.f1, metrics.pairwise.f1, metrics.idf1)
            cells = (f"{100 * share:.1f}" for share in shares)
            table.add_row(rule, times, *cells, str(metrics.identities), str(metrics.people))
        console.print(table)


def _networks(names: list[str]) -> Iterator[Network]:
    sites = {name: site for name, site in DRAWN.items() if not names or name in names}
    others = [name for name in names or REPORTED if name not in DRAWN]
    targets = [name for name in others if not Path(name).is_dir()]
    outputs = [folder / name for name in targets for folder in (PREPARED, FEATURES)]
    outputs += [MODELS / load_params().registry.method] if targets else []
    outputs += [ONNX] if sites else []
    require_outputs(outputs)
    if sites:
        model = ServedModel(ONNX)
        yield from (draw_network(name, site, model) for name, site in sites.items())
    yield from map(load_target, targets)
    for name in others:
        if name not in targets:
            yield from load_folder(Path(name))


def rows(network: Network) -> Iterator[Row]:
    """Yield the identities of each rule."""
    without_tracks = replace(network, sightings=network.sightings.assign(track=""))
    if network.profile.match_odds is None:
        sys.exit(f"refused: {network.name} must have times that can be used, got: {network.profile.reason}")
    for rule, identity in plain_rules(network, as_distances(network.logits)):
        yield rule, "no", identity
    with_times = expit(-network.log_odds())
    for rule, identity in plain_rules(network, with_times):
        yield rule, "yes", identity
    for rule, identity in candidates(without_tracks.edges(), len(network.sightings)):
        yield rule, "yes", identity
    yield "identify", "yes", identify(network.sightings, network.edges()).identity
    yield "identify", "no", identify(network.without_times, network.edges(times=False)).identity
    if (network.sightings["track"] != "").any():
        edges = without_tracks.edges()
        yield "identify without tracks", "yes", identify(without_tracks.sightings, edges).identity
        own_camera = network.sightings.assign(camid=number_tracks(network.sightings["track"]))  # no tracks overlap
        yield "identify without constraints", "yes", identify(own_camera, network.edges()).identity


if __name__ == "__main__":
    main(sys.argv[1:])
