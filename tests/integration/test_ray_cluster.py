"""Match on a Ray cluster of several processes on this machine, and kill one of its nodes in the middle."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from qaconv.errors import InputError
from qaconv.matching import MapStore
from qaconv.matching.blocks import Job, join_blocks, match_blocks
from tests.random_heads import random_head

pytest.importorskip("ray", reason="the extra qaconv[ray] is not installed")
from qaconv.matching.ray_blocks import cluster, match_on_ray

SHAPE = (32, 12, 4)
SIGHTINGS, QUERIES = 4000, 300


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Return a job of random maps, some of them not measured."""
    rng = np.random.default_rng(3)
    store = MapStore.create(tmp_path_factory.mktemp("maps"), shape=SHAPE, dtype="int8", model="random")
    maps = rng.standard_normal((SIGHTINGS, *SHAPE), dtype=np.float32)
    maps /= np.linalg.norm(maps, axis=1, keepdims=True)
    store.append(maps, [f"{number}.jpg" for number in range(SIGHTINGS)], np.zeros(SIGHTINGS), np.zeros(SIGHTINGS))
    return Job.plan(store, random_head(*SHAPE, seed=3), QUERIES, rng.random(SIGHTINGS) < 0.9, "int8")


@pytest.fixture(scope="module")
def expected(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Match in this process, and return the folder of the matches."""
    folder = tmp_path_factory.mktemp("here")
    match_blocks(job, folder / "blocks", torch.device("cpu"))
    join_blocks(job, folder / "blocks", folder / "matches")
    return folder / "matches"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Start a head, which matches nothing, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    memory: dict[str, Any] = {"object_store_memory": 100 << 20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
        for _ in range(2):
            started.add_node(num_cpus=1, **memory)
        yield started
        started.shutdown()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_a_node_when(folder: Path, pairs: int, raylets: list[psutil.Process]) -> threading.Thread:
    """Start a thread that kills a node with an actor, once a folder has the files of some pairs."""

    def matches(process: psutil.Process) -> bool:
        return any("BlockMatcher" in " ".join(child.cmdline()) for child in process.children(recursive=True))

    def kill() -> None:
        while len(list(folder.glob("*.safetensors"))) < pairs or not any(map(matches, raylets)):
            time.sleep(0.01)
        raylet = next(filter(matches, raylets))
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


def test_without_a_cluster_this_process_matches_unless_an_address_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer")

    monkeypatch.setattr("ray.init", refuse)
    with cluster("auto") as is_there:
        assert not is_there
    with pytest.raises(InputError, match="machine.ray is 'host:6379', where no Ray cluster answers: no answer"):
        cluster("host:6379").__enter__()


def test_a_cluster_that_loses_a_node_by_kill_9_ends_what_another_driver_began_with_the_same_bytes(
    job: Job, expected: Path, nodes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = tmp_path / "blocks"
    match_blocks(job, blocks, torch.device("cpu"), lambda pair: sum(pair) % 2 > 0)
    kept = {path: path.stat().st_mtime_ns for path in blocks.glob("*.safetensors")}
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes.worker_nodes]
    killer = kill_a_node_when(blocks, len(kept) + 10, raylets)
    with cluster(nodes.address) as is_there:
        assert is_there
        match_on_ray(job, blocks, "auto")
        with pytest.raises(InputError, match="machine.device is 'cuda', and no node of the Ray cluster has a GPU"):
            match_on_ray(job, blocks, "cuda")
    killer.join(timeout=30)
    assert not killer.is_alive()
    assert len(re.findall("has died; others match its pairs again", caplog.text)) == 1
    assert kept and {path: path.stat().st_mtime_ns for path in kept} == kept
    join_blocks(job, blocks, tmp_path / "matches")
    assert files(tmp_path / "matches") == files(expected)
