"""Match all sightings of a target with each other.

Pairs of blocks of sightings do not depend on each other: those that are finished stay when a match is killed.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from qaconv.config import MachineConfig, Params
from qaconv.data.manifest import Manifest, is_measured
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.matching.blocks import Job, Pair, join_blocks, match_blocks
from qaconv.matching.results import open_maps
from qaconv.models.checkpoint import load_head
from qaconv.paths import MATCHES, MODELS, PREPARED
from qaconv.training.device import find_device, out_of_memory_names


def match(params: Params, target: str, part: int | None = None) -> None:
    """Write artifacts/matches/<target>/<method> for each method, and delete the target's blocks.

    Args:
        params: of the project.
        target: one of its targets.
        part: match the pairs of blocks of this part alone, 1..evaluate.parts, in this process, and leave the rest to
            others. Default: all pairs that nobody has matched yet, on the cluster that `machine.ray` names.

    Raises:
        InputError: there is no such part, the maps are of other images or another network, or the device or the Ray
            cluster is missing.
    """
    parts = params.evaluate.parts
    if part is not None and not 1 <= part <= parts:
        raise InputError(f"--part must be in 1..{parts} (evaluate.parts in params.yaml), got {part}")
    sightings = Manifest.load(PREPARED / target).sightings()
    queries = int((sightings["split"] == "query").sum())
    measured = is_measured(sightings)
    blocks = Path(params.machine.blocks) / target
    jobs = {}
    for method in params.methods:
        store = open_maps(target, method, sightings["image"])
        head = load_head(MODELS / method, store.shape[1:])
        jobs[method] = Job.plan(store, head, queries, measured, params.evaluate.engine)
    with out_of_memory_names("let machine.device be one with more free memory, or cpu,"):
        if part is not None or not _match_on_ray(jobs.values(), blocks, params.machine):
            _match_here(jobs.values(), blocks, find_device(params.machine.device), part, parts)
    if part is not None:
        return
    with replacing_folder(MATCHES / target) as folder:
        for method, job in jobs.items():
            join_blocks(job, blocks / job.name, folder / method)
    shutil.rmtree(blocks)


def _match_here(jobs: Iterable[Job], blocks: Path, device: torch.device, part: int | None, parts: int) -> None:
    def is_left_out(pair: Pair) -> bool:
        return part is not None and sum(pair) % parts != part - 1

    for job in jobs:
        match_blocks(job, blocks / job.name, device, is_left_out)


def _match_on_ray(jobs: Iterable[Job], blocks: Path, machine: MachineConfig) -> bool:
    """Match on the cluster that `machine.ray` names, and return whether there is one."""
    if machine.ray == "none":
        return False
    from qaconv.matching.ray_blocks import cluster, match_on_ray  # needs the extra

    with cluster(machine.ray) as is_there:
        for job in jobs if is_there else ():
            match_on_ray(job, blocks / job.name, machine.device)
    return is_there
