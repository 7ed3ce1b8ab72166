"""Train in several processes, each with a part of every batch and its own GPU, as one process would.

Each process encodes its part. The maps of all parts are gathered, and every process computes the loss of the whole
batch, because losses compare images across the batch. Matching a batch is cheap compared with encoding it. `launch` or
torchrun starts the processes. In a single process these functions change nothing.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.multiprocessing.spawn import ProcessExitedException, spawn
from torch.nn.modules.batchnorm import _BatchNorm

from qaconv.config import MachineConfig
from qaconv.errors import InputError
from qaconv.training.device import find_device

log = logging.getLogger(__name__)

T = TypeVar("T")
TIMEOUT = timedelta(days=1)  # others wait while the first process builds a graph; `launch` ends those of a dead process
GRACE_S = 30  # for the other processes to end by themselves after a failure, and again after SIGTERM


def launched() -> bool:
    """Return whether this process is one of a group, by the environment variables that torchrun sets."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, call: Callable[..., None], *arguments: Any) -> int:
    """Run a function in several processes of this machine. All end if one fails or if this process ends.

    Args:
        processes: number of processes.
        call: function at the top level of a module.
        arguments: arguments of the function.

    Returns:
        The exit code of the first process that failed, or 0.

    Raises:
        ProcessExitedException: a process was killed.
        ProcessRaisedException: a process raised an exception.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store runs in this process
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }
    context = spawn(_call, (group, call, arguments), processes, join=False)
    try:
        while not context.join(grace_period=GRACE_S):
            pass
        return 0
    except ProcessExitedException as error:
        if error.exit_code < 0:
            raise
        return error.exit_code
    finally:
        for process in context.processes:
            process.terminate()


def _call(rank: int, group: dict[str, str], call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.update(group, RANK=str(rank), LOCAL_RANK=str(rank))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(group["WORLD_SIZE"])))
    call(*arguments)


@contextmanager
def joined(machine: MachineConfig) -> Iterator[torch.device]:
    """Join the group of a launched process for the length of the block, and return this process's device.

    Raises:
        InputError: the machine does not have the device, or too few GPUs; or params.yaml asks for several processes and
            this one was not launched.
    """
    if not launched():
        if machine.processes > 1:
            raise InputError(
                f"params.yaml: machine.processes must be 1 in a single process, got {machine.processes}; "
                "`qaconv train` or torchrun starts several"
            )
        yield find_device(machine.device)
        return
    device = _find_process_device(machine)
    local_processes = int(os.environ["LOCAL_WORLD_SIZE"])
    log.info(
        "%d processes train together, %d on this machine; machine.processes is %d",
        int(os.environ["WORLD_SIZE"]),
        local_processes,
        machine.processes,
    )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield device
    dist.destroy_process_group()  # not after a failure: it would wait for processes that have ended


def _find_process_device(machine: MachineConfig) -> torch.device:
    """Return this process's GPU, or the CPU for all processes."""
    device = find_device(machine.device)
    local_processes = int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cpu":
        return device
    if device.index is not None or torch.cuda.device_count() < local_processes:
        raise InputError(
            f"params.yaml: machine.device is {machine.device!r} for {local_processes} processes on a machine with "
            f"{torch.cuda.device_count()} GPUs, allowed: 'cuda' with a GPU for each process, or 'cpu'"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def is_first() -> bool:
    """Return whether this process is the one that writes files and shows progress."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first(compute: Callable[[], T]) -> T:
    """Compute a value in the first process and return it in all, so that they agree."""
    if not dist.is_initialized():
        return compute()
    values = [compute() if is_first() else None]
    dist.broadcast_object_list(values, src=0)
    return values[0]  # type: ignore[return-value]


def share(batch: list[T]) -> list[T]:
    """Return this process's part of a batch. The parts in the order of the processes are the batch.

    Raises:
        InputError: the parts are not equally large.
    """
    if not dist.is_initialized():
        return batch
    size, rest = divmod(len(batch), dist.get_world_size())
    if rest:
        raise InputError(
            "params.yaml: train.identities_per_batch times train.images_per_identity must be a multiple of the "
            f"{dist.get_world_size()} processes, got {len(batch)}"
        )
    return batch[dist.get_rank() * size : (dist.get_rank() + 1) * size]


def spread(encoder: nn.Module) -> nn.Module:
    """Wrap an encoder for training, so that batch statistics and gradients are those of the whole batch."""
    if not dist.is_initialized():
        return encoder
    _share_statistics(encoder)
    # The buffers are equal in all processes, as their statistics are those of the whole batch.
    return nn.parallel.DistributedDataParallel(encoder, forward_sync_buffers=False)


def gather(part: Tensor) -> Tensor:
    """Concatenate the parts [b, ...] of all processes to [B, ...], in their order. Gradients flow back to each part.

    Every process computes the gradient of the whole loss, and `spread` divides the sum over processes by their number.
    So the gradient of each part is multiplied by that number.
    """
    if not dist.is_initialized():
        return part
    whole: Tensor = _Gather.apply(part)
    return whole


def average_gradients(module: nn.Module) -> None:
    """Average the gradients of a module that saw the whole batch in every process.

    Without this, a GPU's rounding would make them differ between processes.
    """
    if not dist.is_initialized():
        return
    for weight in module.parameters():
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


class _Gather(torch.autograd.Function):
    """Concatenate the parts of all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.new_empty((dist.get_world_size() * len(part), *part.shape[1:]))
        dist.all_gather_single(whole, part.contiguous())
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return dist.get_world_size() * gradient.chunk(dist.get_world_size())[dist.get_rank()]


class _Sum(torch.autograd.Function):
    """Sum over all processes. A part's gradient is the sum of the gradients in all processes."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance of the whole batch.

    torch's SyncBatchNorm runs on GPUs only. This one runs on any device, so tests on a CPU cover it.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(maps)
        axes = (0, 2, 3)
        processes = dist.get_world_size()
        values = maps.float()
        mean: Tensor = _Sum.apply(values.mean(axes)) / processes
        centred = values - mean[:, None, None]
        variance: Tensor = _Sum.apply(centred.square().mean(axes)) / processes
        count = processes * maps.numel() // maps.shape[1]
        assert self.num_batches_tracked is not None and self.momentum is not None  # true of a trunk's norms
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(maps.dtype)


def _share_statistics(encoder: nn.Module) -> None:
    """Turn every batch norm into a SharedBatchNorm with the same parameters and buffers.

    Raises:
        InputError: a batch norm is of a subclass, as some of timm's are.
    """
    for module in encoder.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
        elif isinstance(module, _BatchNorm):
            raise InputError(
                f"params.yaml: backbone.name is a network with {type(module).__name__}, whose statistics several "
                "processes cannot share, allowed: machine.processes 1, or another backbone"
            )
