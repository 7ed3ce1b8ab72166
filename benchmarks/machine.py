"""Describe this machine, and measure the rates that bound every program on it.

A process measures each rate once.
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

SECONDS = 0.3  # duration of each measurement
SIDES = (256, 512, 1024, 2048)  # rows of the square matrices whose product is timed


def describe() -> dict[str, str | int]:
    """Return the processor, the number of threads, and the versions that matter."""
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
    """Measure the operations per second of torch's float32 matrix product, at the fastest of SIDES."""
    rates = []
    for side in SIDES:
        left = torch.rand(side, side)
        right = torch.rand(side, side)
        product = torch.empty(side, side)
        rates.append(2 * side**3 / _shortest(functools.partial(torch.mm, left, right, out=product)))
    return max(rates)


@functools.cache
def memory_bandwidth() -> float:
    """Measure the bytes per second read and written, together, while all of torch's threads copy 256 MB."""
    source = torch.zeros(64 << 20)
    target = torch.zeros(64 << 20)
    return 2 * source.nbytes / _shortest(functools.partial(target.copy_, source))


@functools.cache
def disk_rate(folder: Path) -> float:
    """Measure the bytes per second read from a file of 256 MB in `folder` that is not in the page cache."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(os.urandom(256 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        size = len(Path(file.name).read_bytes())
        return size / (time.perf_counter() - started)


def _shortest(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest call within SECONDS, after one call to warm up."""
    call()
    shortest = float("inf")
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest
