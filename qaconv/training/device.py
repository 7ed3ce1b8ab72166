"""Find the device that params.yaml names, and say what to change where its memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from qaconv.errors import InputError


def find_device(name: str) -> torch.device:
    """Find the device that `machine.device` names, and switch TF32 and cuDNN's non-deterministic algorithms off.

    `auto` is a GPU if there is one.

    GPUs are those that `CUDA_VISIBLE_DEVICES` lets this process see, numbered from 0: whole ones, or slices by MIG.

    Args:
        name: auto, cpu, cuda, or cuda:N for the GPU N.

    Raises:
        InputError: this machine lacks it.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = torch.device(("cuda" if count else "cpu") if name == "auto" else name)
    if device.type == "cuda" and (device.index or 0) >= count:
        allowed = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
        raise InputError(f"params.yaml: machine.device is {name!r}, which this machine lacks; allowed here: {allowed}")
    torch.backends.cudnn.allow_tf32 = False  # TF32 rounds float32 to 10 bits, as float16 does
    torch.backends.cudnn.deterministic = True
    return device


@contextmanager
def out_of_memory_names(remedy: str) -> Iterator[None]:
    """Replace the error of a GPU whose memory is full by one message that names the setting to change.

    Args:
        remedy: an imperative, such as "lower evaluate.batch_size".

    Raises:
        InputError: the memory is full.

    Example:
        >>> with out_of_memory_names("lower evaluate.batch_size"):
        ...     raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        Traceback (most recent call last):
        qaconv.errors.InputError: CUDA out of memory. Tried to allocate 9 GiB: lower evaluate.batch_size in params.yaml
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        sizes = str(error).split(" Of the allocated memory")[0].rstrip(". ")
        raise InputError(f"{sizes}: {remedy} in params.yaml") from error
