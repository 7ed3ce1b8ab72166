"""Measure what one round of an adaptation costs, part by part.

`python -m benchmarks.adapting_cost FOLDER SIGHTINGS [WEIGHTS]` draws a site of so many sightings into FOLDER, where a
second run finds it, and adapts MobileNetV2 at 192 x 64 pixels to it in one round, by `adapt`, `evaluate` and `machine`
of params.yaml. WEIGHTS is a file of torchvision's ImageNet weights (docs/real-images.md); without it they are random.
A round's cost hardly depends on the weights, but identities need a network that knows people a little, so that it is
first trained on a sample of the site with its labels, which is not counted.

The table has each part's wall time, the time of the processor, and what the part would take on two quiet cores: half of
its processor time where all its threads work, all of it where one does.
"""

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe
from benchmarks.scale import peak_memory
from qaconv.adaptation import rounds, view
from qaconv.adaptation.rounds import Adaptation
from qaconv.config import BackboneConfig, ImageConfig, Params, SiteConfig, load_params
from qaconv.config.kinds import RerankSettings
from qaconv.data.layouts import market1501
from qaconv.data.manifest import Manifest
from qaconv.models.checkpoint import Architecture, build_network
from qaconv.release.graphs import save_with_graph
from qaconv.synthetic.render import render_site
from qaconv.training import trainer
from qaconv.training.device import find_device
from qaconv.training.methods.trained import TrainedMethod

IMAGE = ImageConfig(height=192, width=64)
SEED, CAMERAS = 520, 6
PER_PERSON = 11  # sightings, at least, on average
PER_DAY = 4000  # sightings, so that a larger site is seen for longer and no busier
SAMPLE = 1000  # sightings that the network is first trained on
CORES = 2
PARTS = {  # name, and whether all threads work on it
    "train: read and augment images": False,
    "train: steps": True,
    "train: save": False,
    "encode": True,
    "match": True,
    "choose how to re-rank": True,
    "re-rank": False,
    "fit times": False,
    "identify": False,
    "judge": False,
}


class Clock:
    """The wall and processor seconds of each part."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._open: list[str] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens as a part of the round, and no longer as one of the part around it."""
        before = time.perf_counter(), time.process_time()
        outer = self._open[-1] if self._open else None
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
            for number, (start, now) in enumerate(zip(before, (time.perf_counter(), time.process_time()), strict=True)):
                self.taken[name][number] += now - start
                if outer:
                    self.taken[outer][number] -= now - start

    def count(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is counted as a part."""

        def counted(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return call(*arguments, **named)

        return counted

    def read_batches(self, reader: Any, state: Any) -> Iterator[Any]:
        """Read the batches of a training, and count the time until each is there."""
        batches = iter(READ_BATCHES(reader, state))
        while True:
            with self.part("train: read and augment images"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


READ_BATCHES = trainer._read_batches


def main(folder: Path, sightings: int, weights: str) -> None:
    """Print the table."""
    params = load_params()
    manifest = draw_site(folder, sightings)
    method = params.method(params.registry.method)
    assert isinstance(method, TrainedMethod)
    frozen = method.train.model_copy(update={"freeze_batchnorm": True})  # as params.yaml says for such weights
    with TemporaryDirectory(dir=folder) as scratch:
        adaptation = Adaptation(
            one_round(params),
            method.model_copy(update={"image": IMAGE, "train": frozen}),
            "drawn",
            manifest,
            Path(scratch) / "network",
            Path(scratch) / "unfinished",
            find_device(params.machine.device),
        )
        teach(adaptation, weights)
        seen = view.view_target(
            adaptation.network,
            manifest,
            params.evaluate,
            Path(scratch) / "seen",
            device=adaptation.device,
            workers=params.machine.workers,
        )
        clock = Clock()
        started = time.perf_counter(), time.process_time()
        with counting(clock, type(params.evaluate.rerank)):
            done = adaptation.run(seen)
        total = time.perf_counter() - started[0], time.process_time() - started[1]
    if not done.trained:
        sys.exit(f"no round was trained: {done.reason}")
    show(clock, total, len(manifest.sightings()), done.trained[0].sightings)


def draw_site(folder: Path, sightings: int) -> Manifest:
    """Draw a site, or find it drawn, and return its first sightings."""
    people = -(-sightings // PER_PERSON)
    site = folder / f"site-{sightings}"
    if not site.is_dir():
        days = min(6, -(-sightings // PER_DAY))
        config = SiteConfig(seed=SEED, cameras=CAMERAS, people=people, days=days, distractors=people // 4)
        render_site(config, site, processes=CORES)
    manifest = market1501.read(site, "drawn")
    frame = manifest.frame.sort_values("time_s", kind="stable").head(sightings)
    if len(frame) < sightings:
        sys.exit(f"{site}: has {len(frame)} sightings, where {sightings} are needed")
    return replace(manifest, frame=frame.reset_index(drop=True))


def one_round(params: Params) -> Params:
    """Return the settings with one round."""
    return params.model_copy(update={"adapt": params.adapt.model_copy(update={"rounds": 1})})


def teach(adaptation: Adaptation, weights: str) -> None:
    """Write the network that the adaptation begins with: trained for an epoch on labelled sightings of the site."""
    backbone = BackboneConfig(
        name="mobilenet_v2",
        last_layer="layer3",
        neck_channels=128,
        weights=weights,
        normalise="none" if weights == "none" else "imagenet",
    )
    with torch.random.fork_rng():
        network = build_network(Architecture(backbone=backbone, image=IMAGE, pooled=False), seed=SEED)
    save_with_graph(network, adaptation.network, {}, {})
    frame = adaptation.manifest.frame
    people = np.unique(frame["pid"][frame["pid"] > 0])[: SAMPLE // PER_PERSON]
    sample = replace(adaptation.manifest, frame=frame[frame["pid"].isin(people)].reset_index(drop=True))
    labels = np.searchsorted(people, sample.sightings()["pid"])
    taught = replace(adaptation, manifest=sample).train_round(0, labels)
    adaptation.network.rename(adaptation.network.with_name("untaught"))
    taught.rename(adaptation.network)


@contextmanager
def counting(clock: Clock, reranker: type[RerankSettings]) -> Iterator[None]:
    """Count the parts of all rounds meanwhile."""
    calls: list[tuple[Any, str, str]] = [
        (rounds, "train", "train: steps"),
        (rounds, "save_with_graph", "train: save"),
        (rounds, "judge_by_times", "judge"),
        (view, "encode_sightings", "encode"),
        (view, "match_blocks", "match"),
        (view, "join_blocks", "match"),
        (reranker, "choose", "choose how to re-rank"),
        (view, "rerank_target", "re-rank"),
        (view, "save_reranked", "re-rank"),
        (view, "fit_target_profile", "fit times"),
        (view, "find_edges", "identify"),
        (view, "identify", "identify"),
        (view, "draw_people", "identify"),
    ]
    with ExitStack() as patches:
        for module, name, part in calls:
            patches.enter_context(patch.object(module, name, clock.count(part, getattr(module, name))))
        patches.enter_context(patch.object(trainer, "_read_batches", clock.read_batches))
        yield


def show(clock: Clock, total: tuple[float, float], sightings: int, trained_on: int) -> None:
    """Print the table."""
    taken = {name: clock.taken[name] for name in PARTS}
    rest = [whole - sum(each[number] for each in taken.values()) for number, whole in enumerate(total)]
    table = Table("part", "wall, s", "processor, s", f"{CORES} quiet cores, s")
    quiet = 0.0
    for name, (wall, processor) in (*taken.items(), ("the rest", rest)):
        expected = processor / (CORES if PARTS.get(name) else 1)
        quiet += expected
        table.add_row(name, f"{wall:,.1f}", f"{processor:,.1f}", f"{expected:,.1f}")
    table.add_row("one round", f"{total[0]:,.1f}", f"{total[1]:,.1f}", f"{quiet:,.1f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads; peak {peak_memory() / 1e9:.1f} GB")
    console.print(f"{sightings:,} sightings, {trained_on:,} of them trained on")
    console.print(table)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("qaconv").setLevel(logging.INFO)
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m benchmarks.adapting_cost FOLDER SIGHTINGS [WEIGHTS]")
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) == 4 else "none")
