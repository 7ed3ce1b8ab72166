"""Evaluate a simulated target, and print the time and the peak of memory of each stage.

`python -m benchmarks.scale QUERIES GALLERY` draws maps of 12 x 6 x 64 in 8 bits, and then runs the stages match,
rerank, fit-tlift and evaluate of one method, each in a process of its own, in a temporary folder. It also times the
kernel alone, and states how long FULL takes. The maps are of nobody; people and times are drawn so that all figures
have a meaning.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.machine import describe
from qaconv.config import BackboneConfig, ImageConfig, Params, load_params
from qaconv.data.manifest import Manifest
from qaconv.matching import MapStore
from qaconv.matching.tiles import choose_matcher
from qaconv.models.checkpoint import Architecture, build_network, load_network, save_network
from qaconv.models.description import weights_digest
from qaconv.paths import FEATURES, MODELS, PREPARED

METHOD = "qaconv"
TARGET = "crowd"
STAGES = ("match", "rerank", "fit_tlift", "evaluate")
SHAPE = (64, 12, 6)
CAMERAS = 6
PER_PERSON = 12  # sightings, on average
DAY_S = 8 * 3600.0
SHARD = 4096  # maps
TIMED = 1024  # maps on either side of the kernel's time
FULL = 20_000, 500_000  # queries and gallery that the times are stated for

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
        console.print(f"kernel alone: {rate / 1e6:.2f} million pairs a second")
        total = 0.0
        for stage in STAGES:
            seconds, peak = measure(stage, Path(folder))
            total += seconds
            console.print(f"{stage}: {seconds:,.0f} s, {peak / 1e9:.2f} GB at most")
    console.print(f"{total * rate / pairs:.2f} times the kernel's time for {pairs:,.0f} pairs, each once")
    everything = sum(FULL)
    hours = everything * (everything + 1) / 2 / rate / 3600 * total * rate / pairs
    console.print(f"{FULL[0]:,} x {FULL[1]:,} take {hours:.0f} hours at that rate")


def draw_target(folder: Path, queries: int, gallery: int) -> None:
    """Write a network, a manifest and maps into a folder."""
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=SHAPE[0], weights="none")
    image = ImageConfig(height=8 * SHAPE[1], width=8 * SHAPE[2])
    network = build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=1)
    save_network(network, folder / MODELS / METHOD, trained={"data": {}, "calibration": None}, tables={})
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
    """Return the pairs a second that the kernel matches in 8 bits, the best of three calls."""
    store = MapStore(folder / FEATURES / TARGET / METHOD)
    matcher = choose_matcher(load_network(folder / MODELS / METHOD)[0].head)
    count = min(TIMED, len(store) // 2)
    query, gallery = matcher.prepare(store.codes(0, count)), store.codes(count, 2 * count)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        matcher.table(query, gallery)
        seconds.append(time.perf_counter() - started)
    return count**2 / min(seconds)


def measure(stage: str, folder: Path) -> tuple[float, int]:
    """Run a stage in a process of its own; return its seconds, and its peak in bytes with the pages of mapped files."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.scale", stage]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = done.stdout.split()[-2:]
    return float(seconds), int(peak)


def run_stage(stage: str) -> None:
    """Run a stage of one method in the working folder, and print its seconds and its peak of memory in bytes."""
    module = import_module(f"qaconv.stages.{stage}")
    run, params = getattr(module, stage), target_params()
    started = time.perf_counter()
    run(params, TARGET)
    seconds = time.perf_counter() - started
    print(seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def target_params() -> Params:
    """Return the project's parameters for the simulated target, matched in 8 bits."""
    params = load_params(PROJECT / "params.yaml")
    evaluate = params.evaluate.model_copy(update={"engine": "int8"})
    methods = {METHOD: params.methods[METHOD]}
    return params.model_copy(update={"targets": [TARGET], "methods": methods, "evaluate": evaluate})


if __name__ == "__main__":
    main()
