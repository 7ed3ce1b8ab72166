"""Train in two processes on one device, which the project itself does not do: each process has its own GPU there."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from benchmarks.gpu.settings import Setup
from qaconv.training.methods.trained import TrainedMethod

PROCESSES = 2
MOST_S = 75.0


def train_in_two(
    setup: Setup, folder: Path, methods: Sequence[TrainedMethod]
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return the weights that each of two processes ends with, for each method.

    Raises:
        RuntimeError: the processes take longer than MOST_S.
    """
    folder.mkdir(parents=True)
    context = spawn(_train, (setup, folder, methods), PROCESSES, join=False)
    until = time.monotonic() + MOST_S
    try:
        while not context.join(timeout=1):
            if time.monotonic() > until:
                raise RuntimeError(f"two processes did not finish training within {MOST_S:g} s")
    finally:
        for process in context.processes:
            process.kill()
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES))
    return list(zip(first, second, strict=True))


def _train(rank: int, setup: Setup, folder: Path, methods: Sequence[TrainedMethod]) -> None:
    """Train every method in one of the processes, and save the weights."""
    from benchmarks.gpu.parity_training import run

    _accept_older_torch()
    if setup.device.type == "cuda":
        torch.cuda.set_device(0)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    weights = [run(setup, folder / method.loss.kind, setup.device, method=method) for method in methods]
    torch.save(weights, folder / f"{rank}.pt")
    dist.destroy_process_group()


def _accept_older_torch() -> None:
    """Give a PyTorch before 2.14 the two newer names that `qaconv.training.distributed` calls."""
    if hasattr(dist, "all_gather_single"):
        return
    parallel = nn.parallel.DistributedDataParallel

    def with_older_name(module: nn.Module, *, forward_sync_buffers: bool) -> nn.Module:
        return parallel(module, broadcast_buffers=forward_sync_buffers)

    setattr(dist, "all_gather_single", dist.all_gather_into_tensor)  # noqa: B010
    setattr(nn.parallel, "DistributedDataParallel", with_older_name)  # noqa: B010
