"""Time calls on a device, and read how much of its memory they use."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import torch

LEAST_S = 0.3  # sum of the timed calls of one measurement, at least
MOST_S = 5.0
MOST_TURNS = 50
REHEARSED_TURNS = 1


class Cost(NamedTuple):
    """The median time of a call, and the largest amount of GPU memory in use during it (None on the CPU)."""

    seconds: float
    peak_bytes: int | None


def measure(call: Callable[[], object], device: torch.device, *, turns: int = 5) -> Cost:
    """Time a call until both `turns` and LEAST_S are reached, after a first call that warms up."""
    cuda = device.type == "cuda"
    call()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    taken: list[float] = []
    turns = turns if cuda else REHEARSED_TURNS
    while len(taken) < MOST_TURNS and sum(taken) < MOST_S and (len(taken) < turns or (cuda and sum(taken) < LEAST_S)):
        taken.append(_time_on_gpu(call) if cuda else _time(call))
    return Cost(median(taken), torch.cuda.max_memory_allocated() if cuda else None)


def _time_on_gpu(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _time(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class Clock:
    """Sum the time of parts of a loop on a device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    @contextmanager
    def counts(self) -> Iterator[None]:
        """Count the work that is started in the block."""
        if not self._cuda:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def seconds(self) -> float:
        """Wait for the device, and return the sum."""
        if self._cuda:
            torch.cuda.synchronize()
        return self._seconds + sum(float(start.elapsed_time(end)) for start, end in self._events) / 1000
