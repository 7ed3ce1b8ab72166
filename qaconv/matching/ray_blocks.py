"""Match the pairs of blocks of a job on a Ray cluster.

The driver is the process that runs the stage. It reads the blocks of maps, hands them to actors through Ray's store of
objects, and writes the files of each finished pair as `match_blocks` does: nodes need no folder in common, and a driver
that is killed continues where its files end. There is one actor on each GPU of the cluster, or without GPUs one on each
node with all its cores. An actor keeps the block that its pairs have in common. Pairs of an actor that dies are matched
again by another one, and nodes that join later get actors, too.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import ObjectLostError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from qaconv.errors import InputError
from qaconv.matching.blocks import Job, Pair, PairResult, open_pairs, read_logits, save_pair
from qaconv.matching.tiles import choose_matcher, load_block
from qaconv.progress import track
from qaconv.runtime.quantise import Block

AHEAD = 2  # pairs that an actor has: it matches one while the other's maps travel
LOOK_S = 2.0  # seconds between two looks at the cluster's nodes
WITHOUT_NODES_S = 300.0  # that a driver waits for a node before it gives up
MAX_DEATHS = 3  # of actors that had the same pair: after that the fault is not theirs
BLOCKS_KEPT = 16  # in Ray's store: it holds 128 MB of each in 8 bits; another is read again

log = logging.getLogger(__name__)


class BlockMatcher:
    """An actor: matches pairs of blocks on its node.

    Args:
        job: what is matched; its store is not opened here.
        device: cpu or cuda.
    """

    def __init__(self, job: Job, device: str) -> None:
        self._job = job
        self._matcher = choose_matcher(job.head, torch.device(device))
        self._row = -1
        self._prepared: Any = None

    def start(self) -> None:
        """Return when the actor is ready."""

    def match(self, pair: Pair, first: Block, second: Block) -> PairResult:
        """Match two blocks."""
        if pair[0] != self._row:
            self._row, self._prepared = pair[0], self._matcher.prepare(first)
        rows, columns = (self._job.grid.blocks[number] for number in pair)
        return read_logits(self._job, rows, columns, self._matcher.table(self._prepared, second))


@dataclass(eq=False)
class Member:
    """The driver's view of an actor.

    Attributes:
        place: name of its node, and its number there.
        actor: handle of a `BlockMatcher`.
        has_started: whether it can match; its node may be busy with other work before.
        row: the first block of its last pair; -1 before.
        pairs: number of pairs that it has.
    """

    place: tuple[str, int]
    actor: Any
    has_started: bool = False
    row: int = -1
    pairs: int = 0


@contextmanager
def cluster(address: str) -> Iterator[bool]:
    """Connect to a Ray cluster, whose nodes get this process's qaconv; yield whether there is one.

    Args:
        address: `auto` for the cluster that RAY_ADDRESS names or that runs on this machine, if there is one; or
            HOST:PORT of one that this machine is a node of.

    Raises:
        InputError: no cluster answers at HOST:PORT.
    """
    package = {"py_modules": [str(Path(__file__).parents[1])]}
    try:
        ray.init(address, runtime_env=package, logging_level=logging.WARNING, log_to_driver=False)
    except ConnectionError as error:
        if address != "auto":
            raise InputError(
                f"params.yaml: machine.ray is {address!r}, where no Ray cluster answers: {error}"
            ) from error
        log.info("no Ray cluster runs here: this process matches")
        yield False
        return
    try:
        yield True
    finally:
        ray.shutdown()


def match_on_ray(job: Job, folder: Path, device: str) -> None:
    """Match the pairs of blocks whose files are not in a folder yet, on the cluster that `cluster` has connected to.

    Args:
        job: what is matched.
        folder: of this job alone.
        device: machine.device of params.yaml. auto: the GPUs of the cluster if it has any, else the CPUs.

    Raises:
        InputError: the device is a GPU, and the cluster has none.
        RuntimeError: the cluster has had no node for WITHOUT_NODES_S, or MAX_DEATHS actors have died over one pair.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = open_pairs(job, folder)
    description = f"match {len(job.store)} x {len(job.store)} on Ray"
    for pair, result in track(Driver(job, device).match(pairs), description, total=len(pairs)):
        save_pair(job, folder, pair, result)


class Driver:
    """Hand pairs of blocks to actors, and collect what they return.

    Args:
        job: what is matched.
        device: as in `match_on_ray`.
    """

    def __init__(self, job: Job, device: str) -> None:
        self._job = job
        self._resource = _choose_resource(device)
        # Ray lets an actor see its own GPU alone, as the first.
        self._shared = ray.put(job), "cuda" if self._resource == "GPU" else "cpu"
        self._open: dict[int, deque[Pair]] = {}  # pairs that no actor has, by their first block
        self._members: list[Member] = []
        self._waiting: dict[ray.ObjectRef[Any], tuple[Member, Pair | None]] = {}  # for a pair, or for an actor to start
        self._deaths: Counter[Pair] = Counter()
        self._looked, self._seen = -LOOK_S, time.monotonic()
        self._put = lru_cache(BLOCKS_KEPT)(self._put_block)

    def match(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, PairResult]]:
        """Yield each pair with its result, as they come."""
        for pair in pairs:
            self._open.setdefault(pair[0], deque()).append(pair)
        try:
            while any(self._open.values()) or any(pair for _, pair in self._waiting.values()):
                self._enlist()
                self._hand_out()
                yield from self._collect()
        finally:
            for member in self._members:
                ray.kill(member.actor)

    def _put_block(self, number: int) -> "ray.ObjectRef[Block]":
        return ray.put(load_block("maps", self._job.store, self._job.grid.blocks[number], self._job.engine))

    def _enlist(self) -> None:
        """Start an actor wherever there is a place without one."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        taken = {member.place for member in self._members}
        for node in ray.nodes():
            amounts = {name: int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU")}
            actors = amounts["GPU"] if self._resource == "GPU" else min(1, amounts["CPU"])
            for place in [(node["NodeID"], number) for number in range(actors if node["Alive"] else 0)]:
                self._seen = now
                if place in taken:
                    continue
                actor = ray.remote(BlockMatcher).options(
                    num_cpus=amounts["CPU"] // actors,
                    num_gpus=int(self._resource == "GPU"),
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
                )
                member = Member(place, actor.remote(*self._shared))
                self._members.append(member)
                self._waiting[member.actor.start.remote()] = member, None
        if now - self._seen > WITHOUT_NODES_S:
            raise RuntimeError(f"Ray has had no node with a {self._resource} for {WITHOUT_NODES_S:g} s")

    def _hand_out(self) -> None:
        for member in self._members:
            while member.has_started and member.pairs < AHEAD and (pair := self._take(member.row)):
                answer = member.actor.match.remote(pair, self._put(pair[0]), self._put(pair[1]))
                self._waiting[answer] = member, pair
                member.row = pair[0]
                member.pairs += 1

    def _take(self, row: int) -> Pair | None:
        """Return a pair with this first block, else one of the block with most pairs; None if there are none."""
        left = {number: len(pairs) for number, pairs in self._open.items() if pairs}
        return self._open[row if row in left else max(left, key=left.__getitem__)].popleft() if left else None

    def _collect(self) -> Iterator[tuple[Pair, PairResult]]:
        """Wait LOOK_S at most for the next answer."""
        if not self._waiting:
            time.sleep(LOOK_S)
            return
        answers, _ = ray.wait(list(self._waiting), timeout=LOOK_S)
        for answer in answers:
            member, pair = self._waiting.pop(answer)
            try:
                result = ray.get(answer)
            except (RayActorError, ObjectLostError) as error:
                self._dismiss(member, pair, error)
                continue
            if pair is None:
                member.has_started = True
            else:
                member.pairs -= 1
                yield pair, result

    def _dismiss(self, member: Member, pair: Pair | None, error: RayError) -> None:
        """Forget an actor that has died, and let another one match its pair."""
        if member in self._members:
            self._members.remove(member)
            if member.pairs:  # Ray lists a node for a while after its end, so one without pairs is no news
                log.warning("an actor on node %s has died; others match its pairs again: %s", member.place[0], error)
        if pair is None:
            return
        self._deaths[pair] += 1
        if self._deaths[pair] == MAX_DEATHS:
            raise RuntimeError(f"{MAX_DEATHS} actors have died over the blocks {pair}") from error
        self._open[pair[0]].appendleft(pair)


def _choose_resource(device: str) -> str:
    """Return which of Ray's resources an actor needs.

    Raises:
        InputError: the device is a GPU, and the cluster has none.
    """
    has_gpus = ray.cluster_resources().get("GPU", 0) >= 1
    if device.startswith("cuda") and not has_gpus:
        raise InputError(f"params.yaml: machine.device is {device!r}, and no node of the Ray cluster has a GPU")
    return "GPU" if has_gpus and device != "cpu" else "CPU"
