"""Run parts one after another in this process. A fault, or a part that takes too long, becomes a failed check."""

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch

from benchmarks.gpu.card import describe
from benchmarks.gpu.parts import LOST_GPU, Part, chosen
from benchmarks.gpu.record import Check, Record, Row
from benchmarks.gpu.settings import FULL, TINY, Setup
from qaconv.training.device import find_device


class OutOfTime(Exception):
    """A part took longer than its time limit."""


def work(options: argparse.Namespace) -> int:
    """Run the parts of `--worker`, and return an exit code."""
    if not options.rehearse and not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} finds no CUDA GPU; --rehearse runs tiny sizes on the CPU", file=sys.stderr)
        return 1
    device = find_device("cpu" if options.rehearse else "cuda")  # applies the project's settings
    record = Record.load(options.out)
    if not record.machine:
        record.machine = describe(device)
        record.save()
        print("\n".join(f"{name}: {value}" for name, value in record.machine.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        setup = Setup(
            device=device,
            sizes=TINY if options.rehearse else FULL,
            folder=Path(folder),
            images=options.images,
            weights=options.weights,
            training_seconds=2 if options.rehearse else options.training_seconds,
        )
        for part in chosen(options.worker):
            run_part(part, find(part, setup), record)
            if not _answers(device):
                return LOST_GPU
    return 0


def find(part: Part, setup: Setup) -> Callable[[], Iterable[Row]]:
    """Return the part's function with its arguments. It imports its module when it is called."""

    def call() -> Iterable[Row]:
        module, function = part.function.split(":")
        rows: Iterable[Row] = getattr(import_module(f"benchmarks.gpu.{module}"), function)(setup, *part.arguments)
        return rows

    return call


def run_part(part: Part, call: Callable[[], Iterable[Row]], record: Record) -> None:
    """Add the rows of a part to the record, and a failed check if it raises. Print a line about it."""
    started, rows = time.monotonic(), list[Row]()
    try:
        with _time_limit(part.seconds):
            for row in call():
                rows.append(row)
    except Exception as error:
        note = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
        rows.append(Check("runs to its end", False, note=note, error=traceback.format_exc()))
    seconds = time.monotonic() - started
    record.add(part.name, rows, seconds)
    failed = [row for row in rows if isinstance(row, Check) and not row.passed]
    faults = "".join(f"\n  FAILED: {row.name}: {row.measured} {row.note}" for row in failed)
    print(f"{part.name}: {len(rows)} rows, {len(failed)} failed, {seconds:.1f} s{faults}", flush=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after a number of seconds."""

    def raise_out_of_time(*_: object) -> None:
        raise OutOfTime(f"did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, raise_out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _answers(device: torch.device) -> bool:
    """Check that the GPU still works: after a fault in a kernel every later call of the process fails."""
    if device.type == "cpu":
        return True
    try:
        torch.cuda.synchronize()
        return bool(torch.ones(1, device=device).item() == 1)
    except RuntimeError:
        return False
