"""A device's name goes in; torch's device comes out, if this machine has it."""

import torch

from qaconv.errors import InputError


def find_device(name: str) -> torch.device:
    """The device that params.yaml names; `auto` is CUDA where there is one.

    Raises:
        InputError: it is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        legal = ["auto", "cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
        raise InputError(f"params.yaml: machine.device is {name!r}, which this machine lacks; legal here: {legal}")
    return device
