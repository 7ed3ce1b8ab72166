"""Train in several processes, each with a part of every batch and its own GPU, as one process would.

Each process encodes its part. The maps of all are gathered, and every process computes the loss of the whole batch, as
losses compare across the batch; matching a batch is cheap compared with encoding it. The processes are those of
`launch` or of torchrun. In a single process the functions here change nothing.
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
PATIENCE = timedelta(days=1)  # the others wait while the first draws a graph; who waits for a dead one is ended
GRACE_S = 30  # for the others to end by themselves, and again once they are told to


def launched() -> bool:
    """Whether this process is one of a group, by the variables that torchrun sets."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, call: Callable[..., None], *arguments: Any) -> int:
    """Runs a call in several processes of this machine; where one fails all end, and they end with this one.

    Args:
        processes: how many.
        call: a function of a module.
        arguments: of the call.

    Returns:
        The code that the first to fail has ended with, or 0.

    Raises:
        ProcessExitedException: one was killed.
        ProcessRaisedException: one has raised what nobody caught.
    """
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    group = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(meeting.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is this process's
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
    """This process's device; in a launched process, as one of a group for as long as the block lasts.

    Raises:
        InputError: the device is not there, or there are not enough of it; several processes are asked for, and
            nobody has launched them.
    """
    if not launched():
        if machine.processes > 1:
            raise InputError(
                f"params.yaml: machine.processes is {machine.processes}, and this is one process by itself; "
                "`qaconv train` starts them, and so does torchrun"
            )
        yield find_device(machine.device)
        return
    device = _own_device(machine)
    here, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    log.info("%d processes train together, %d here; machine.processes is %d", total, here, machine.processes)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    yield device
    dist.destroy_process_group()  # not after a fault: it would wait for those who have ended


def _own_device(machine: MachineConfig) -> torch.device:
    """A GPU for each process of this machine, or the CPU for all."""
    device, here = find_device(machine.device), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cpu":
        return device
    if device.index is not None or torch.cuda.device_count() < here:
        raise InputError(
            f"params.yaml: machine.device is {machine.device!r} for {here} processes on a machine with "
            f"{torch.cuda.device_count()} GPUs; each needs one of its own: legal is 'cuda' with as many processes, "
            "or 'cpu'"
        )
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


def is_first() -> bool:
    """Whether this process is the one that writes and tells."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first(compute: Callable[[], T]) -> T:
    """What the first process computes, in all of them: for what takes no share, or what all must agree on."""
    if not dist.is_initialized():
        return compute()
    found = [compute() if is_first() else None]
    dist.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]


def share(batch: list[T]) -> list[T]:
    """This process's part of a batch; in the order of the processes the parts are the batch.

    Raises:
        InputError: the parts would not be equal.
    """
    if not dist.is_initialized():
        return batch
    size, rest = divmod(len(batch), dist.get_world_size())
    if rest:
        raise InputError(
            f"params.yaml: batches have {len(batch)} images (train.identities_per_batch times "
            f"train.images_per_identity), which {dist.get_world_size()} processes cannot share evenly; legal is a "
            "multiple of the processes"
        )
    return batch[dist.get_rank() * size : (dist.get_rank() + 1) * size]


def spread(encoder: nn.Module) -> nn.Module:
    """The encoder as a process calls it in training: batch statistics are of all shares, and gradients are averaged."""
    if not dist.is_initialized():
        return encoder
    _share_statistics(encoder)
    # Whatever a share of a batch could change is the same everywhere, so no buffer needs to be sent round.
    return nn.parallel.DistributedDataParallel(encoder, forward_sync_buffers=False)


def gather(part: Tensor) -> Tensor:
    """Parts [b, ...] of all processes as one [B, ...], in their order; gradients flow back to each part.

    Each process takes the gradient of the whole loss, and `spread` divides their sum by the processes: so each part's
    is multiplied by them.
    """
    return _Gather.apply(part) if dist.is_initialized() else part


def average_gradients(module: nn.Module) -> None:
    """Of a module to which every process has shown the whole batch: equal but for a GPU's rounding, now exactly so."""
    if not dist.is_initialized():
        return
    for weight in module.parameters():
        if weight.grad is not None:
            dist.all_reduce(weight.grad)
            weight.grad /= dist.get_world_size()


class _Gather(torch.autograd.Function):
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
    """The sum over all processes; each one's part has a share in what all make of it."""

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
    """Batch normalisation whose mean and variance are those of all shares of the batch.

    torch's SyncBatchNorm does the same on GPUs alone; this one knows no device, so that what is tested is what runs.
    """

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(maps)
        axes, processes, values = (0, 2, 3), dist.get_world_size(), maps.float()
        mean = _Sum.apply(values.mean(axes)) / processes
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().mean(axes)) / processes
        count = processes * maps.numel() // maps.shape[1]
        assert self.num_batches_tracked is not None and self.momentum is not None  # as a trunk's norms have them
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(maps.dtype)


def _share_statistics(encoder: nn.Module) -> None:
    """Makes every batch norm a SharedBatchNorm, its parameters and buffers as they are.

    Raises:
        InputError: one is of a kind that does more than that, as some of timm's.
    """
    for module in encoder.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
        elif isinstance(module, _BatchNorm):
            raise InputError(
                f"params.yaml: backbone.name names a network with {type(module).__name__}, whose statistics several "
                "processes cannot share; legal is machine.processes 1, or another backbone"
            )
