"""Compare searches a second of one process with those of several workers, or of a leader and a follower.

`python -m benchmarks.serve_several --workers 2`, or `--machines`. wrk sends the searches (`apt-get install wrk`).
"""

import argparse
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import psutil
from rich.console import Console

from benchmarks.serve import (
    CLIENTS,
    IDLE_S,
    PORT,
    TARGET,
    cpu_s,
    enrolment,
    files,
    load,
    place_model,
    require_wrk_and_demo,
    service,
    text,
    wait_until_idle,
)
from qaconv.runtime.model import ServedModel

FIRST = 20  # searches before those that are counted
ROUNDS = 5  # of one process and several
console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=60, help="of each load")
    kinds = arguments.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--workers", type=int, help="number of workers to compare with one process")
    kinds.add_argument("--machines", action="store_true", help="compare leader and follower, a core each, with one")
    given = arguments.parse_args()
    require_wrk_and_demo()
    with TemporaryDirectory() as scratch:
        state = Path(scratch) / "galleries"
        model = ServedModel(place_model(state), threads=1)
        queries, gallery = files("query"), files("gallery")
        if given.machines:
            console.print(compare_machines(state, model, queries, gallery, given.seconds, Path(scratch)))
        else:
            with service(state) as (url, process):
                fill(url, process, model, gallery)
            console.print(compare_workers(state, given.workers, queries, given.seconds, Path(scratch)))


def fill(
    url: str, process: subprocess.Popen[bytes], model: ServedModel, gallery: list[tuple[bytes, int, float]]
) -> None:
    """Enrol the gallery and wait for its last weights."""
    enrolment(url, model, gallery)
    time.sleep(IDLE_S)  # until it computes them
    wait_until_idle(process)


def compare_workers(
    state: Path, workers: int, queries: list[tuple[bytes, int, float]], seconds: int, scratch: Path
) -> str:
    """Measure searches a second of one process and of several in turn, as the machine's speed varies."""
    one: list[float] = []
    several: list[float] = []
    for _ in range(ROUNDS):
        for count, rates in ((1, one), (workers, several)):
            with service(state, workers=count) as (url, _):
                warm_up(url, queries)
                answer = load(url, queries, seconds, scratch, CLIENTS * workers)
                rates.append(answer.rate)
                console.print(f"{count} of {workers} workers: {answer}")
    return describe_ratio(f"{workers} workers", several, one)


def compare_machines(
    state: Path,
    model: ServedModel,
    queries: list[tuple[bytes, int, float]],
    gallery: list[tuple[bytes, int, float]],
    seconds: int,
    scratch: Path,
) -> str:
    """Measure searches a second of a leader alone and of leader and follower, each on a core of its own, in turn.

    Each is asked by as many clients at once as keep its core busy. On a machine that does other work two processes get
    a smaller share of it than one; the CPU of a search does not depend on that.
    """
    one: list[float] = []
    both: list[float] = []
    cpu_ms: dict[int, list[float]] = {1: [], 2: []}  # of a search, by the number of machines
    copy = scratch / "copy"
    copy.mkdir()
    with service(state, core=0) as (leader, process):
        fill(leader, process, model, gallery)
        with service(copy, core=1, port=PORT + 1, follow=leader) as (follower, copying):
            time.sleep(IDLE_S)
            wait_until_idle(copying)
            processes = [psutil.Process(process.pid), psutil.Process(copying.pid)]
            for machines, rates in [((leader,), one), ((leader, follower), both)] * ROUNDS:
                folders = [scratch / str(number) for number in range(len(machines))]
                for folder, url in zip(folders, machines, strict=True):
                    folder.mkdir(exist_ok=True)
                    warm_up(url, queries)
                began_s = cpu_s(processes[0]) + cpu_s(processes[1])
                with ThreadPoolExecutor() as pool:
                    tasks = [
                        pool.submit(load, url, queries, seconds, folder, 2 * CLIENTS)
                        for url, folder in zip(machines, folders, strict=True)
                    ]
                    answers = [task.result() for task in tasks]
                used_s = cpu_s(processes[0]) + cpu_s(processes[1]) - began_s
                cpu_ms[len(machines)].append(1000 * used_s / max(1, sum(answer.searches for answer in answers)))
                rates.append(sum(answer.rate for answer in answers))
                console.print(f"{len(machines)} of 2 machines: {'; '.join(map(str, answers))}")
    cpu = f"CPU of a search: {median(cpu_ms[2]):.1f} ms with two machines, {median(cpu_ms[1]):.1f} ms with one"
    return f"{describe_ratio('2 machines of a core', both, one)}\n{cpu}"


def describe_ratio(name: str, several: list[float], one: list[float]) -> str:
    """Compare searches a second, of pairs of runs."""
    ratios = [many / single for single, many in zip(one, several, strict=True)]
    return (
        f"{name}: {median(several):.1f} searches a second, one: {median(one):.1f}; ratio of "
        f"{len(ratios)} pairs of runs: median {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


def warm_up(url: str, queries: list[tuple[bytes, int, float]]) -> None:
    """Search for some crops, each on a connection of its own, so that every worker answers some."""
    for image, camid, time_s in queries[:FIRST]:
        body = {"queries": [{"image": text(image), "camid": camid, "time_s": time_s}]}
        httpx.post(f"{url}/v1/targets/{TARGET}/search", json=body, timeout=60).raise_for_status()


if __name__ == "__main__":
    main()
