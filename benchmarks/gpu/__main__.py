"""Check and measure everything on a GPU, print one table, and write a JSON file into this folder.

A worker process runs the parts. If it dies, hangs or loses the GPU, another one continues with the remaining parts, so
that a fault costs one part.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.gpu.card import Card, find_card
from benchmarks.gpu.parts import LOST_GPU, Part, chosen
from benchmarks.gpu.record import Check, Record

FOLDER = Path(__file__).parent
START_S = 60  # largest time that a worker needs to start, in addition to the time of its first part
GRACE_S = 15  # after a part's time is over, in which the worker may end the part itself


def main(arguments: list[str]) -> int:
    """Run the parts, and return 0 if every check passed."""
    options = parse(arguments)
    if options.worker:
        from benchmarks.gpu.worker import work  # imports torch, which only the worker needs

        return work(options)
    card = None if options.rehearse else find_card()
    if card is None and not options.rehearse:
        print("no NVIDIA GPU found (nvidia-smi lists none); --rehearse runs tiny sizes on the CPU", file=sys.stderr)
        return 1
    path = options.out or FOLDER / f"{_slug(card)}.json"
    record = Record(path, options.rehearse)
    record.save()
    started = time.monotonic()
    supervise(chosen(options.only), path, arguments, rehearse=options.rehearse)
    return summarise(Record.load(path), time.monotonic() - started)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", metavar="PART,PART", help="parts or groups of parts: parity, speed.matching, ...")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="Market-1501: turns on the real training")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights of MobileNetV2 for the real training")
    parser.add_argument("--training-seconds", type=float, default=180, help="of the real training, default: 180")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write; --rehearse needs it")
    parser.add_argument("--worker", metavar="PARTS", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.rehearse and not options.out:
        parser.error("--rehearse needs --out FILE")
    if bool(options.images) != bool(options.weights) and not options.rehearse:
        parser.error("--images and --weights must be given together")
    try:
        chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


def supervise(parts: list[Part], path: Path, arguments: list[str], *, rehearse: bool) -> None:
    """Start workers until every part has ended, or has ended its worker."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if rehearse:
        environment |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}  # read when Triton and PyTorch are imported
    waiting = parts
    while waiting:
        names = ",".join(part.name for part in waiting)
        command = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--out", str(path), "--worker", names]
        worker = subprocess.Popen(command, env=environment)
        try:
            end = _wait(worker, waiting, path)
        finally:
            if worker.poll() is None:
                worker.kill()
        if not Record.load(path).machine:
            return  # it could not start, and has printed why
        waiting = _left(waiting, path)
        if end is not None and waiting:
            record = Record.load(path)
            record.add(waiting[0].name, [Check("runs to its end", False, note=end)], 0.0)
            print(f"{waiting[0].name}: FAILED: {end}", flush=True)
            waiting = waiting[1:]


def _wait(worker: "subprocess.Popen[bytes]", parts: list[Part], path: Path) -> str | None:
    """Return how the current part ended its worker, or None if the worker ended between two parts."""
    since, left = time.monotonic() + START_S, len(parts)
    while worker.poll() is None:
        time.sleep(0.2)
        waiting = _left(parts, path)
        if len(waiting) < left:
            since, left = time.monotonic(), len(waiting)
        if waiting and time.monotonic() - since > waiting[0].seconds + GRACE_S:
            worker.kill()
            worker.wait()
            return f"did not end within {waiting[0].seconds:g} s and was killed"
    from_worker = {0: None, LOST_GPU: None}
    return from_worker.get(worker.returncode, f"its process ended with code {worker.returncode}")


def _left(parts: list[Part], path: Path) -> list[Part]:
    ended = Record.load(path).seconds
    return [part for part in parts if part.name not in ended]


def summarise(record: Record, seconds: float) -> int:
    """Print the table, and return the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(record.table())
    checks = [row for row in record.rows if isinstance(row, Check)]
    console.print(f"{len(checks)} checks, {len(record.failed)} failed, {seconds:.0f} s; {record.path}")
    for check in record.failed:
        console.print(f"FAILED: {check.part}: {check.name}: {check.note}", markup=False)
    return 1 if record.failed or not checks else 0


def _slug(card: Card | None) -> str:
    name = card.name if card else "rehearsal"
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
