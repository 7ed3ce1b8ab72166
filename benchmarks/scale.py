"""Evaluate a simulated target, and print the time and the peak of memory of each stage.

`python -m benchmarks.scale QUERIES GALLERY` draws maps of 12 x 6 x 64 in 8 bits, and then runs the stages match,
rerank, fit-tlift and evaluate of one method, each in a process of its own, in a temporary folder. It also matches one
pair of the largest blocks, and times the kernel alone. Time of the processor is compared, which the load of other
processes changes little. The maps are of nobody; people and times are drawn so that all figures have a meaning.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.machine import describe
from qaconv.config import BackboneConfig, ImageConfig, Params, load_params
from qaconv.data.manifest import Manifest
from qaconv.matching import MapStore
from qaconv.matching.blocks import BLOCK_SIGHTINGS, Job, match_blocks
from qaconv.matching.tiles import choose_matcher
from qaconv.models.checkpoint import Architecture, build_network, load_network, save_network
from qaconv.models.description import weights_digest
from qaconv.paths import FEATURES, MODELS, PREPARED
from qaconv.training.device import find_device

METHOD = "qaconv"
TARGET = "crowd"
STAGES = ("match", "rerank", "fit_tlift", "evaluate")
LARGEST = "largest"  # in place of a stage: one pair of the largest blocks
SHAPE = (64, 12, 6)
CAMERAS = 6
PER_PERSON = 12  # sightings, on average
DAY_S = 8 * 3600.0
SHARD = 4096  # maps
TIMED = 1024  # maps on either side of the kernel's time

PROJECT = Path(__file__).parent.parent


def main() -> None:
    """Draw a target, run the stages, and print what they took."""
    if len(sys.argv) == 2:
        run_stage(sys.argv[1])
        return
    queries, gallery = map(int, sys.argv[1:])
    sightings = queries + gallery
    pairs = sightings * (sightings + 1) / 2
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    with tempfile.TemporaryDirectory() as folder:
        draw_target(Path(folder), queries, gallery)
        rate = kernel_rate(Path(folder))
        console.print(f"kernel alone: {rate / 1e6:.2f} million pairs in a second of the processor")
        for stage in STAGES:
            taken = measure(stage, Path(folder))
            console.print(f"{stage}: {taken}")
            if stage == "match":
                times = taken.processor_s * rate / pairs
                console.print(f"  {times:.2f} times the kernel's time for {pairs:,.0f} pairs, each once")
        if sightings >= 2 * BLOCK_SIGHTINGS:
            taken = measure(LARGEST, Path(folder))
            times = taken.processor_s * rate / BLOCK_SIGHTINGS**2
            console.print(f"a pair of blocks of {BLOCK_SIGHTINGS:,}: {taken}\n  {times:.2f} times the kernel's time")


def draw_target(folder: Path, queries: int, gallery: int) -> None:
    """Write a network, a manifest and maps into a folder."""
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=SHAPE[0], weights="none")
    image = ImageConfig(height=8 * SHAPE[1], width=8 * SHAPE[2])
    network = build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=1)
    save_network(network, folder / MODELS / METHOD, trained={"data": {}, "calibration": None}, files={})
    count = queries + gallery
    rng = np.random.default_rng(1)
    pids = rng.integers(0, max(2, count // PER_PERSON), count)
    camids = rng.integers(0, CAMERAS, count)
    starts = rng.uniform(0, DAY_S, pids.max() + 1)
    frame = pd.DataFrame(
        {
            "image": [f"{number:07d}.jpg" for number in range(count)],
            "pid": pids,
            "camid": camids,
            "time_s": starts[pids] + 300 * camids + rng.normal(0, 30, count),
            "split": np.repeat(["query", "gallery"], [queries, gallery]),
            "domain": TARGET,
        }
    )
    Manifest(frame, folder / "images").save(folder / PREPARED / TARGET)
    store = MapStore.create(
        folder / FEATURES / TARGET / METHOD,
        shape=SHAPE,
        dtype="int8",
        model=weights_digest(folder / MODELS / METHOD),
    )
    people = rng.standard_normal((256, *SHAPE), dtype=np.float32)  # a person is the sum of two of them
    for start in range(0, count, SHARD):
        rows = slice(start, min(start + SHARD, count))
        maps = people[pids[rows] % 256] + people[pids[rows] // 256 % 256]
        maps += 1.5 * rng.standard_normal(maps.shape, dtype=np.float32)
        maps /= np.linalg.norm(maps, axis=1, keepdims=True)
        store.append(maps, frame["image"][rows].tolist(), camids[rows], frame["time_s"][rows])


def kernel_rate(folder: Path) -> float:
    """Return the pairs that the kernel matches in 8 bits in a second of the processor, the best of three calls."""
    store = MapStore(folder / FEATURES / TARGET / METHOD)
    matcher = choose_matcher(load_network(folder / MODELS / METHOD)[0].head)
    count = min(TIMED, len(store) // 2)
    query, gallery = matcher.prepare(store.codes(0, count)), store.codes(count, 2 * count)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        matcher.table(query, gallery)
        seconds.append(time.process_time() - started)
    return count**2 / min(seconds)


class Taken(NamedTuple):
    """What a stage has taken."""

    seconds: float
    processor_s: float  # of all its threads
    peak: float  # bytes, with the pages of mapped files

    def __str__(self) -> str:
        """Return the three figures."""
        return f"{self.seconds:,.0f} s, {self.processor_s:,.0f} s of the processor, {self.peak / 1e9:.2f} GB at most"


def measure(stage: str, folder: Path) -> Taken:
    """Run a stage in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.scale", stage]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return Taken(*map(float, done.stdout.split()[-3:]))


def run_stage(stage: str) -> None:
    """Run a stage of one method in the working folder, and print what `Taken` holds."""
    run: Callable[[Params, str], object] = match_largest
    if stage != LARGEST:
        run = getattr(import_module(f"qaconv.stages.{stage}"), stage)
    params = target_params()
    started, processor = time.perf_counter(), time.process_time()
    run(params, TARGET)
    print(time.perf_counter() - started, time.process_time() - processor, peak_memory())


def match_largest(params: Params, target: str) -> None:
    """Match the first sightings with the next as `match` does where there are millions, in the largest blocks."""
    store = MapStore(FEATURES / target / METHOD)
    head = load_network(MODELS / METHOD)[0].head
    job = Job.plan(store, head, 0, np.ones(len(store), dtype=bool), params.evaluate.engine)
    job = replace(job, grid=job.grid._replace(size=BLOCK_SIGHTINGS))
    match_blocks(job, Path("largest"), find_device(params.machine.device), leave_out=lambda pair: pair != (0, 1))


def peak_memory() -> int:
    """Return this process's peak in bytes. `ru_maxrss` would be the parent's, which a new process starts from."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def target_params() -> Params:
    """Return the project's parameters for the simulated target, matched in 8 bits."""
    params = load_params(PROJECT / "params.yaml")
    evaluate = params.evaluate.model_copy(update={"engine": "int8"})
    methods = {METHOD: params.methods[METHOD]}
    return params.model_copy(update={"targets": [TARGET], "methods": methods, "evaluate": evaluate})


if __name__ == "__main__":
    main()
