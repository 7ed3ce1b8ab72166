"""Measure how fast the service enrols and searches, and its memory, on the demo's encoder.

`make bench-serve` runs it. wrk sends the searches (`apt-get install wrk`).
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.demo import require_outputs
from qaconv.config import load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.files import write_json
from qaconv.paths import ONNX, PREPARED, TLIFT
from qaconv.runtime.crops import read_crop
from qaconv.runtime.model import ServedModel
from qaconv.runtime.shortlist import LANDMARKS, Landmarks
from qaconv.serving.commands import BATCH
from qaconv.serving.encoding import BATCH as ENCODED
from qaconv.serving.gallery import Filter, Gallery
from qaconv.serving.map_cache import MapCache
from qaconv.serving.storage import Sighting
from qaconv.serving.stored_maps import quantise_maps

TARGET = "mall"
ENROLLED = 10_000
CLIENTS = 4  # requests at once
PARTS = 5  # of the enrolment; the encoder alone is measured before and after each, as a machine's speed varies
TURNS = 60  # of the encoder alone
TOP = 10
IDLE_S = 3.0  # that a service is idle before it is measured
PORT = 8765
console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=300, help="of the load")
    seconds = arguments.parse_args().seconds
    require_wrk_and_demo()
    with TemporaryDirectory() as scratch:
        state = Path(scratch) / "galleries"
        model = ServedModel(place_model(state), threads=1)
        queries, gallery = files("query"), files("gallery")
        with service(state) as (url, process):
            console.print(f"enrolment: {enrolment(url, model, gallery)}")
            console.print(f"search over {ENROLLED:,}, {CLIENTS} at once: {load(url, queries, seconds, Path(scratch))}")
            console.print(f"memory of the service at most: {peak_memory(process):.0f} MB")
        console.print(agreement(model, queries, gallery))


def require_wrk_and_demo() -> None:
    """End the program with one message if wrk or an output of the demo is missing."""
    if shutil.which("wrk") is None:
        sys.exit("wrk was not found; `apt-get install wrk` installs it")
    require_outputs((ONNX, TLIFT / TARGET, PREPARED / TARGET))


def place_model(state: Path) -> Path:
    """Copy what the demo exported to where the service keeps its active version."""
    served = state / "models" / "demo"
    shutil.copytree(ONNX, served)
    (served / "tlift").mkdir()
    shutil.copy(TLIFT / TARGET / "qaconv.json", served / "tlift" / f"{TARGET}.json")
    write_json(state / "models" / "in_charge.json", {"version": "demo"})
    return served


def files(split: str) -> list[tuple[bytes, int, float]]:
    """Return image, camera and time of a split's sightings without junk."""
    manifest = Manifest.load(PREPARED / TARGET)
    rows = manifest.split(split).query(f"pid != {JUNK}")
    return [
        ((manifest.root / image).read_bytes(), int(camid), float(time_s))
        for image, camid, time_s in zip(rows["image"], rows["camid"], rows["time_s"], strict=True)
    ]


def bare_rate(model: ServedModel, gallery: list[tuple[bytes, int, float]]) -> float:
    """Measure images a second of the encoder alone on decoded crops, a batch on each core, as the service encodes."""
    batch = crops(model, gallery[:ENCODED])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        began = time.perf_counter()
        list(pool.map(model.encode, [batch] * TURNS))
        return TURNS * len(batch) / (time.perf_counter() - began)


def crops(model: ServedModel, sightings: list[tuple[bytes, int, float]]) -> NDArray[np.uint8]:
    return np.stack([read_crop(image, *model.crop_size) for image, *_ in sightings])


@contextmanager
def service(
    state: Path,
    folder: Path | None = None,
    workers: int = 1,
    core: int | None = None,
    port: int = PORT,
    follow: str | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `qaconv serve` on this machine, without a registry.

    Args:
        state: folder of the galleries.
        folder: working folder, with params.yaml. Default: the present one.
        workers: number of its processes that answer.
        core: the one that it may use. Default: all.
        port: that it listens on.
        follow: address of its leader. Default: none.
    """
    command = ["taskset", "--cpu-list", str(core)] if core is not None else []
    command += [str(Path(sys.executable).parent / "qaconv"), "serve", "--state", str(state), "--port", str(port)]
    command += ["--workers", str(workers), *(["--follow", follow] if follow else [])]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'none.db'}"}
    with (
        (state / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stderr=log, cwd=folder) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process)
            wait_until_idle(process)
            yield url, process
        finally:
            process.terminate()
            process.wait()  # before another one listens there


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the service has ended with {process.returncode}")


def wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the first read of the registry, which imports MLflow and takes seconds."""
    running = psutil.Process(process.pid)
    busy_s = None
    while busy_s is None or cpu_s(running) - busy_s > 0.05 * IDLE_S:
        busy_s = cpu_s(running)
        time.sleep(IDLE_S)


def cpu_s(process: psutil.Process) -> float:
    """Return the time that a process and its children have used, in seconds."""
    times = [one.cpu_times() for one in (process, *process.children())]
    return float(sum(time.user + time.system for time in times))


def enrolment(url: str, model: ServedModel, gallery: list[tuple[bytes, int, float]]) -> str:
    """Measure images a second over ENROLLED sightings, CLIENTS requests at once, and of the encoder alone."""
    bodies = []
    for start in range(0, ENROLLED, BATCH):
        sightings = []
        for number in range(start, min(start + BATCH, ENROLLED)):
            image, camid, time_s = gallery[number % len(gallery)]
            later = number // len(gallery)  # a repeated sighting is not encoded again
            sightings.append({"image": text(image), "camid": camid, "time_s": time_s + later})
        bodies.append((len(sightings), json.dumps({"sightings": sightings}).encode()))
    path = f"{url}/v1/targets/{TARGET}/sightings"
    enrolled, bare = [], [bare_rate(model, gallery)]
    with httpx.Client(headers={"Content-Type": "application/json"}, timeout=60) as client:
        for part in track(range(PARTS), "enrol", console=console):
            counts, posted = zip(*bodies[part::PARTS], strict=True)
            began = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                for answer in pool.map(lambda body: client.post(path, content=body), posted):
                    answer.raise_for_status()
            enrolled.append(sum(counts) / (time.perf_counter() - began))
            bare.append(bare_rate(model, gallery))
    shares = [2 * rate / (before + after) for rate, before, after in zip(enrolled, bare, bare[1:], strict=False)]
    return (
        f"{median(enrolled):.0f} images/s, {median(shares):.0%} of the bare encoder's {median(bare):.0f}: "
        f"medians of {PARTS} parts, {min(shares):.0%} to {max(shares):.0%}"
    )


class Load(NamedTuple):
    """What wrk measured.

    Attributes:
        median: time of a search, with its unit.
        slow: time that 99 per cent of searches took at most, with its unit.
        searches: number that was answered.
        seconds: of the load.
        failed: what wrk says of failed requests.
    """

    median: str
    slow: str
    searches: int
    seconds: int
    failed: list[str]

    @property
    def rate(self) -> float:
        """Searches a second."""
        return self.searches / self.seconds

    def __str__(self) -> str:
        failed = "; ".join(self.failed) or "no errors"
        return f"median {self.median}, p99 {self.slow}, {self.searches:,} searches in {self.seconds} s, {failed}"


def load(
    url: str, queries: list[tuple[bytes, int, float]], seconds: int, scratch: Path, clients: int = CLIENTS
) -> Load:
    """Search by one crop after another with wrk, and return what it measured."""
    return send(
        url,
        [{"image": text(image), "camid": camid, "time_s": time_s} for image, camid, time_s in queries],
        seconds,
        scratch,
        clients,
    )


def send(url: str, queries: list[dict[str, object]], seconds: int, scratch: Path, clients: int = CLIENTS) -> Load:
    """Search by one query after another with wrk, and return what it measured."""
    bodies = [json.dumps({"queries": [query], "top_k": TOP}) for query in queries]
    (scratch / "bodies").write_text("\n".join(bodies))
    (scratch / "search.lua").write_text(SCRIPT.format(bodies=scratch / "bodies"))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "10s", "-s"]
    address = f"{url}/v1/targets/{TARGET}/search"
    output = subprocess.run(
        [*command, scratch / "search.lua", address], capture_output=True, text=True, check=True
    ).stdout
    (middle,), (slow,) = (re.findall(rf"^ +{share}%\s+(\S+)$", output, re.M) for share in (50, 99))
    (count,) = re.findall(r"(\d+) requests in", output)
    failed = re.findall(r"(Non-2xx.*|Socket errors.*)", output)
    return Load(middle, slow, int(count), seconds, failed)


SCRIPT = """
local bodies, at = {{}}, 0
for line in io.lines("{bodies}") do bodies[#bodies + 1] = line end
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
request = function()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
"""


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(peak) / 1024


def agreement(
    model: ServedModel, queries: list[tuple[bytes, int, float]], gallery: list[tuple[bytes, int, float]]
) -> str:
    """Measure how much of full matching a shortlist with the setting's share of the gallery finds."""
    size = round(load_params().serve.shortlist / ENROLLED * len(gallery))
    maps = quantise_maps(np.concatenate([model.encode(crops(model, part)) for part in parts(gallery)]))
    stored = Gallery(
        len(gallery), MapCache(len(gallery), model.map_shape, lambda ids: (list(ids), maps.take(np.array(ids) - 1)))
    )
    numbers = np.arange(1, len(gallery) + 1)
    stored.add(
        [
            Sighting(number, TARGET, camid, time_s, None, 0)
            for number, (_, camid, time_s) in zip(numbers.tolist(), gallery, strict=True)
        ]
    )
    chosen = np.random.default_rng(0).choice(len(gallery), LANDMARKS, replace=False)
    landmarks = Landmarks(model.matcher, maps.take(chosen))
    stored.use_landmarks(1, landmarks, numbers[chosen].tolist(), numbers, landmarks.weigh(maps))
    tops, first = 0.0, 0.0
    for query in model.encode(crops(model, queries)):
        some, everything = (best(stored, model, query, shortlist) for shortlist in (size, len(gallery)))
        tops += len(set(some) & set(everything)) / TOP / len(queries)
        first += (some[0] == everything[0]) / len(queries)
    return (
        f"shortlist of {size} of {len(gallery):,}: holds {tops:.1%} of the {TOP} best of full matching, "
        f"and the best for {first:.1%} of {len(queries)} queries"
    )


def parts(gallery: list[tuple[bytes, int, float]]) -> list[list[tuple[bytes, int, float]]]:
    return [gallery[start : start + BATCH] for start in range(0, len(gallery), BATCH)]


def best(gallery: Gallery, model: ServedModel, query: NDArray[np.float32], shortlist: int) -> list[int]:
    candidates = gallery.search(model, query[None], Filter(), shortlist)
    return [int(sighting) for sighting in candidates.ids[np.argsort(-candidates.logits[0])][:TOP]]


def text(image: bytes) -> str:
    return base64.b64encode(image).decode()


if __name__ == "__main__":
    main()
