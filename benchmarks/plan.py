"""Print what the evaluation of a target costs by its size: time, memory, disk and money, on CPUs and on GPUs.

`python -m benchmarks.plan` measures the kernel's rate here, reads other rates from benchmarks/results.json and
benchmarks/gpu/nvidia-h200.json, and computes the rest by the formulas of docs/scaling.md. Prices are options, as they
change: those of the table are rounded list prices of large clouds. A target of N sightings has N / 26 queries, at most
100,000; maps are 12 x 6 x 64 in 8 bits.
"""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.scale import SHAPE, draw_target, kernel_rate
from qaconv.matching.blocks import BLOCK_SIGHTINGS, LEAST_BLOCKS
from qaconv.matching.results import NEIGHBOURS
from qaconv.tlift.sampling import MOST_NEIGHBOURS

SIGHTINGS = 1_000_000, 10_000_000, 100_000_000
CAMERAS = 10, 100, 1_000, 10_000
PER_QUERY, MOST_QUERIES = 26, 100_000
MAP_BYTES = math.prod(SHAPE) + 2 * math.prod(SHAPE[1:])  # in 8 bits, with one float16 scale a location
NEAR = NEIGHBOURS + 1
# Bytes of the fit for each of the neighbours that it reads: 0.71 GB before it, 2.63 GB with 100,000 sightings; and for
# each sighting: 2.71 GB with 400,000, by `python -m benchmarks.fitting memory`. Both are rounded up.
FIT_NEIGHBOUR_BYTES = 200
FIT_SIGHTING_BYTES = 300
TRANSIT_BYTES = 8 * 8 * 188  # for each pair of cameras: eight tables of 188 bins, of times within a day
CORES = 64  # of the CPU machine that times are stated for
GPUS = 8

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Rates:
    """Measured rates, a second.

    Attributes:
        core_pairs: pairs that a core matches in 8 bits.
        gpu_pairs: pairs that a GPU matches, with maps on the host.
        core_images: images that a core encodes from files.
        gpu_images: images that a GPU encodes, from the host and back.
    """

    core_pairs: float
    gpu_pairs: float
    core_images: float
    gpu_images: float


@dataclass(frozen=True)
class Target:
    """What the stages of a target need.

    Attributes:
        sightings: N.
        cameras: number of cameras.
    """

    sightings: int
    cameras: int

    @property
    def queries(self) -> int:
        """Return Q."""
        return min(self.sightings // PER_QUERY, MOST_QUERIES)

    @property
    def block(self) -> int:
        """Return the number of sightings of a block."""
        return min(BLOCK_SIGHTINGS, -(-self.sightings // LEAST_BLOCKS))

    @property
    def pairs(self) -> float:
        """Return the pairs that are matched: those of different blocks once."""
        return self.sightings * (self.sightings + self.block) / 2

    @property
    def disk_bytes(self) -> float:
        """Return the bytes of maps, files of pairs of blocks, logits and re-ranked scores while `match` runs."""
        blocks = self.sightings / self.block
        scores = 4 * self.queries * (self.sightings - self.queries)
        return self.sightings * (MAP_BYTES + 8 * NEAR * blocks) + 2 * scores

    @property
    def match_bytes(self) -> float:
        """Return the bytes of a process that matches, and of the one that joins: the larger."""
        return max(12 * self.block * (math.prod(SHAPE) + self.block), 16 * self.sightings * NEAR)

    @property
    def fit_bytes(self) -> float:
        """Return the bytes of the fit: neighbours that are read, sightings, and transit times of pairs of cameras."""
        read = min(self.sightings * NEIGHBOURS, MOST_NEIGHBOURS)
        transit = TRANSIT_BYTES * math.comb(self.cameras, 2)
        return FIT_NEIGHBOUR_BYTES * read + FIT_SIGHTING_BYTES * self.sightings + transit

    @property
    def evaluate_bytes(self) -> float:
        """Return the bytes of `evaluate`: a block of rows, and each query's ten best images on each camera."""
        return 64 * max(1 << 23, self.sightings) + 160 * self.queries * self.cameras


def main(
    core_hour: Annotated[float, typer.Option(help="price of a core for an hour")] = 0.04,
    gpu_hour: Annotated[float, typer.Option(help="price of a GPU for an hour")] = 3.0,
    terabyte_month: Annotated[float, typer.Option(help="price of a terabyte of disk for a month")] = 80.0,
) -> None:
    """Print the rates and both tables."""
    console = Console(soft_wrap=True, highlight=False, width=140)
    rates = measure_rates()
    console.print(
        f"a core: {rates.core_pairs / 1e6:.2f} million pairs and {rates.core_images:,.0f} images a second; an H200: "
        f"{rates.gpu_pairs / 1e6:.0f} million pairs and {rates.gpu_images:,.0f} larger images (384 x 128, ResNet-50)"
    )
    matching = f"match, {CORES} cores", "price", f"match, {GPUS} GPUs", "price"
    table = Table("sightings", *matching, "encode, same cores", "disk", "a month", "match in memory")
    for sightings in SIGHTINGS:
        target = Target(sightings, 1)
        core_hours, gpu_hours = (target.pairs / rate / 3600 for rate in (rates.core_pairs, rates.gpu_pairs))
        table.add_row(
            f"{sightings:,}",
            hours(core_hours / CORES),
            f"{core_hours * core_hour:,.0f}",
            hours(gpu_hours / GPUS),
            f"{gpu_hours * gpu_hour:,.0f}",
            hours(sightings / rates.core_images / 3600 / CORES),
            size(target.disk_bytes),
            f"{target.disk_bytes / 1e12 * terabyte_month:,.0f}",
            size(target.match_bytes),
        )
    console.print(table)
    table = Table("sightings", "cameras", "fit-tlift in memory", "evaluate in memory")
    for target in (Target(sightings, cameras) for sightings in SIGHTINGS for cameras in CAMERAS):
        table.add_row(
            f"{target.sightings:,}", f"{target.cameras:,}", size(target.fit_bytes), size(target.evaluate_bytes)
        )
    console.print(table)


def measure_rates() -> Rates:
    """Measure the kernel here, and read the other rates."""
    with tempfile.TemporaryDirectory() as folder:
        draw_target(Path(folder), 48, 2000)
        core_pairs = kernel_rate(Path(folder))
    images = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))["images"]
    (row,) = (row for row in images["rows"] if row["what"].startswith("files to maps 96 x 48"))
    core_images = row["items"] / row["ours"]["seconds"] / images["machine"]["threads"]
    gpu = json.loads((FOLDER / "gpu/nvidia-h200.json").read_text(encoding="utf-8"))["figures"]
    figures = {figure["name"]: figure["value"] for figure in gpu}
    gpu_pairs = figures["12x6x64: score_matrix, maps on the host"]
    return Rates(core_pairs, gpu_pairs, core_images, figures["as qaconv encodes, from the host and back"])


def hours(number: float) -> str:
    """Return hours with a unit that suits them."""
    if number < 1:
        return f"{60 * number:.0f} min"
    return f"{number:.0f} h" if number < 72 else f"{number / 24:,.0f} days"


def size(count: float) -> str:
    """Return bytes with a unit that suits them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e6:,.0f} MB"


if __name__ == "__main__":
    typer.run(main)
