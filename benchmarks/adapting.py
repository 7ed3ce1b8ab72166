"""Adapt the demo's network to networks drawn for it, and measure by labels what that changes.

`python -m benchmarks.adapting [SEED ...]` prints a row for each drawn network and way: as `adapt` in params.yaml says,
with identities by looks alone, and with the times of each camera permuted, where the profile finds no signal and
nothing is trained. The figures are of the round that was kept, or else of the last one.
"Right" is the share of right ones among the best matches on each other camera of people held out, by times and by
labels; `campus` is direct mAP on the sources' query and gallery.
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from qaconv.adaptation.evidence import best_matches
from qaconv.adaptation.measurement import network_figures
from qaconv.adaptation.rounds import Adaptation
from qaconv.adaptation.view import View, view_target
from qaconv.config import Params, SiteConfig, load_params
from qaconv.data.layouts import market1501
from qaconv.data.manifest import Manifest
from qaconv.identities import Edges, find_edges_by_scores
from qaconv.metrics import Calibration, evaluate_ranking
from qaconv.metrics.rankings import DIRECT
from qaconv.metrics.target_sightings import EvaluatedSightings
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, PREPARED, SOURCES
from qaconv.synthetic.render import render_site
from qaconv.training.device import find_device
from qaconv.training.methods.trained import TrainedMethod

SEEDS = (501, 502)
COLUMNS = ("network", "way", "kept", "direct", "held out", "both", "right by times", "by labels", "campus")
PLACEHOLDER = "–"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LooksAlone(View):
    """A view whose identities do not use times; times still judge its matches."""

    calibration: Calibration

    @cached_property
    def edges(self) -> Edges:
        """Pairs that may show one person, by their scores."""
        logits = self.calibration.scale * self.matches.neighbour_logits[:] + self.calibration.offset
        return find_edges_by_scores(self.matches.neighbours[:], logits)


def main(seeds: list[int]) -> None:
    """Print the table."""
    require_outputs([MODELS, SOURCES])
    params = load_params()
    table = Table(*COLUMNS, title="mAP and shares in per cent, before > after", title_justify="left")
    with TemporaryDirectory() as folder:
        for seed in seeds:
            manifest = draw(seed, Path(folder) / str(seed))
            for way, cells in adapt_to(manifest, params, Path(folder) / "unfinished"):
                log.info(" | ".join([str(seed), way, *cells]))  # a killed run leaves what it has measured
                table.add_row(str(seed), way, *cells)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    console.print(table)


def draw(seed: int, folder: Path) -> Manifest:
    """Draw a network of 4 to 6 cameras and 60 to 80 people with labels, and 40 more."""
    site = SiteConfig(seed=seed, cameras=4 + seed % 3, people=60 + 10 * (seed % 3), distractors=40, junk=15)
    render_site(site, folder, processes=1)
    return market1501.read(folder, folder.name)


def adapt_to(manifest: Manifest, params: Params, unfinished: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each way with the cells of its row."""
    network = MODELS / params.registry.method
    trained = load_network(network)[1]
    method = params.method(params.registry.method)
    assert isinstance(method, TrainedMethod)
    device = find_device(params.machine.device)
    campus = Manifest.load(PREPARED / "campus")

    def adapt(view: View, of_manifest: Manifest, settings: Params) -> list[str]:
        adaptation = Adaptation(settings, method, "drawn", of_manifest, network, unfinished, device)
        rounds = adaptation.run(view)
        shown = rounds.best if rounds.best.number else (rounds.first, *rounds.trained)[-1]
        ends = [rounds.first, shown] if rounds.trained else [rounds.first]
        figures = [network_figures(adaptation, each, rounds.held_out, None) for each in ends]
        rankings = [each.rankings or {} for each in figures]
        return [
            f"{rounds.best.number} of {len(rounds.trained)}",
            _change([each[DIRECT.key] for each in rankings]),
            _change([each.held_out for each in figures]),
            _change([each["reranked_tlift"] for each in rankings]),
            _change([each.matches.share for each in ends if each.matches]),
            _change([right_by_labels(each.view, of_manifest, rounds.held_out) for each in ends if each.matches]),
            _change([direct_map(each.network, campus, params, unfinished) for each in ends] if rounds.trained else []),
        ]

    def see(of_manifest: Manifest, name: str) -> View:
        folder = unfinished.with_name(name)
        return view_target(network, of_manifest, params.evaluate, folder, device=device, workers=params.machine.workers)

    view = see(manifest, "seen")
    yield "looks and times", adapt(view, manifest, params)
    one_round = params.model_copy(update={"adapt": params.adapt.model_copy(update={"rounds": 1})})
    looks = LooksAlone(view.sightings, view.matches, view.profile, Calibration(**trained["calibration"]))
    yield "looks alone, one round", adapt(looks, manifest, one_round)
    permuted = permute_times(manifest)
    yield "times permuted", adapt(see(permuted, "permuted"), permuted, params)


def direct_map(network: Path, manifest: Manifest, params: Params, unfinished: Path) -> float:
    """Return direct mAP in [0, 1] of a network on a target's query and gallery."""
    folder = unfinished.with_name("measured")
    device = find_device(params.machine.device)
    view = view_target(network, manifest, params.evaluate, folder, device=device, workers=params.machine.workers)
    sightings = EvaluatedSightings(manifest.frame, manifest.root)
    logits = sightings.logits(view.matches.logits)
    return evaluate_ranking(logits, *sightings.identities, same_camera=sightings.same_camera).mean_average_precision


def permute_times(manifest: Manifest) -> Manifest:
    """Permute the times among the sightings of each camera."""
    rng = np.random.default_rng(5)
    camid, times = manifest.frame["camid"].to_numpy(), manifest.frame["time_s"].to_numpy()
    permuted = times.copy()
    for camera in np.unique(camid):
        rows = np.flatnonzero(camid == camera)
        permuted[rows] = times[rng.permutation(rows)]
    return replace(manifest, frame=manifest.frame.assign(time_s=permuted))


def right_by_labels(view: View, manifest: Manifest, held_out: NDArray[np.int64]) -> float:
    """Return the true share of what `judge_by_times` estimates."""
    pid = manifest.sightings()["pid"].to_numpy()
    one, other = best_matches(view, view.sightings["camid"].to_numpy(), np.flatnonzero(held_out >= 0))
    return float((pid[one] == pid[other]).mean())


def _change(values: list[float | None]) -> str:
    """Write shares in per cent, before and after."""
    return " > ".join(PLACEHOLDER if value is None else f"{100 * value:.1f}" for value in values) or PLACEHOLDER


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main([int(seed) for seed in sys.argv[1:]] or list(SEEDS))
