"""Time appending to and reading from a store of maps, and a search of a million maps in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.machine import disk_rate, memory_bandwidth
from benchmarks.table import Bound, Cost, Row, compare
from qaconv.matching import MapStore

SHAPE = (64, 12, 6)  # C, H, W: the demo's
IMAGES = 20_000
SMALL = (32, 8, 4)  # C, H, W of the million maps
SHARD = 20_000  # maps
MILLION = 1_000_000
# Opens the store, searches it, and prints the seconds of the search and the peak resident bytes of the process.
SEARCH = """
import re, sys, time
from pathlib import Path
import torch
from qaconv.matching import MapStore, search
from qaconv.models import QAConv
store = MapStore(Path(sys.argv[1]))
started = time.perf_counter()
search(store.block(0, 16), store, QAConv(*store.shape[1:]), top_k=10, engine="int8")
seconds = time.perf_counter() - started
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def rows() -> Iterator[Row]:
    """Append and read maps of each type, then search a million."""
    with tempfile.TemporaryDirectory() as folder:
        maps = _maps(IMAGES, SHAPE)
        for dtype in ("float16", "int8"):
            path = Path(folder) / dtype
            append = partial(_append, path, maps, dtype)
            size = maps.numel() * (2 if dtype == "float16" else 1)
            disk, memory = disk_rate(Path(folder)), memory_bandwidth()
            bound = Bound(f"disk at {disk / 1e9:.1f} GB/s", size / disk)
            yield compare(f"append {IMAGES:,} as {dtype}", None, append, turns=1, bound=bound, items=IMAGES)
            bound = Bound(f"memory at {memory / 1e9:.0f} GB/s", (size + 4 * maps.numel()) / memory)
            read = partial(_read, MapStore(path))
            yield compare(f"read {IMAGES:,} of {dtype} as float32", None, read, bound=bound, items=IMAGES)
        yield _million(Path(folder) / "million")


def _append(folder: Path, maps: torch.Tensor, dtype: str) -> None:
    store = MapStore.create(folder, maps.shape[1:], dtype=dtype, model="simulated")  # type: ignore[arg-type]
    for start in range(0, len(maps), 4096):
        part = maps[start : start + 4096]
        store.append(part, [str(start + row) for row in range(len(part))], np.zeros(len(part)), np.zeros(len(part)))


def _read(store: MapStore) -> None:
    for start in range(0, len(store), 4096):
        store.block(start, min(len(store), start + 4096))


def _million(folder: Path) -> Row:
    """Search shards that all hold the same simulated maps; time and memory do not depend on the values."""
    store, maps = MapStore.create(folder, SMALL, dtype="int8", model="simulated"), _maps(SHARD, SMALL)
    for shard in range(MILLION // SHARD):
        names = [f"{shard}/{row}" for row in range(SHARD)]
        store.append(maps, names, np.full(SHARD, shard % 6), np.arange(SHARD))
    command = [sys.executable, "-c", SEARCH, str(folder)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    peak = int(printed[1])
    note = f"the whole process with PyTorch stays below {peak / 1e9:.2f} GB; maps 8x4x32"
    return Row(f"search {MILLION:,} for 16 queries, int8", None, Cost(float(printed[0]), peak), None, 16, note)


def _maps(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return F.normalize(torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)), dim=1)
