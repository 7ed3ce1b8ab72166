"""Nothing goes in; what this machine is, and the rates that bound any program on it, come out.

Rates are measured in the process that asks, once.
"""

import functools
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

SECONDS = 0.3  # of each measurement
SIDES = (256, 512, 1024, 2048)  # of the square matrices whose product is timed


def describe() -> dict[str, str | int]:
    """Processor, threads and the versions that matter."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


@functools.cache
def sgemm_rate() -> float:
    """Floating-point operations a second of torch's float32 matrix product, at its best size of SIDES."""
    rates = []
    for side in SIDES:
        left, right, product = torch.rand(side, side), torch.rand(side, side), torch.empty(side, side)
        rates.append(2 * side**3 / _shortest(functools.partial(torch.mm, left, right, out=product)))
    return max(rates)


@functools.cache
def memory_bandwidth() -> float:
    """Bytes a second read and written, together, while copying 256 MB with all of torch's threads."""
    source, target = torch.zeros(64 << 20), torch.zeros(64 << 20)
    return 2 * source.nbytes / _shortest(functools.partial(target.copy_, source))


@functools.cache
def disk_rate(folder: Path) -> float:
    """Bytes a second read from a file of 256 MB in `folder` that is not in the page cache."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(os.urandom(256 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        size = len(Path(file.name).read_bytes())
        return size / (time.perf_counter() - started)


def _shortest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of the calls that fit into SECONDS, after one that warms up."""
    call()
    shortest, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest
