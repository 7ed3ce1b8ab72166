"""Measure ingest and `prepare` on drawn data: the listing, a batch's check, and the reading of images.

`python -m benchmarks.ingest` prints how each grows. The listing has a million keys in 10,000 batches, and is simulated
without a network; datasets are tables of drawn rows; images are noise.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from flows.ingest_bucket import IngestBucket
from qaconv.config.operation import IngestConfig
from qaconv.data.ingest import check_batch
from qaconv.data.ingest_dataset import TABLE, Dataset
from qaconv.data.layouts.checked import CheckedImages
from qaconv.data.layouts.images import verify_images
from qaconv.data.manifest import Manifest

BATCHES, KEYS = 10_000, 100  # of a batch
PAGE = 1000  # keys of a page of S3's listing
ROWS = 10_000, 100_000  # of datasets
SENT, PER_BATCH = 20, 20  # batches, and images of each
IMAGES = 2000
RULES = IngestConfig(max_share_change=1, share_from=1, wait_hours=1)
ARRIVED = "2026-01-05T02:00:00+00:00"


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        measure_listing()
        for rows in ROWS:
            measure_batches(Path(name) / str(rows), rows)
        measure_images(Path(name) / "images")


class SimulatedS3:
    """Answers a listing as S3 does, a page after another."""

    def get_paginator(self, _: str) -> "SimulatedS3":
        """Return the only paginator."""
        return self

    def paginate(self, **_: str) -> Iterator[dict[str, Any]]:
        """Yield pages of entries."""
        uploaded = datetime(2026, 1, 5, tzinfo=UTC)
        for first in range(0, BATCHES * KEYS, PAGE):
            keys = [f"shop/{number // KEYS:05d}/{number % KEYS:03d}.jpg" for number in range(first, first + PAGE)]
            yield {
                "Contents": [
                    {"Key": key, "ETag": f'"{hash(key):032x}"', "LastModified": uploaded, "Size": 5000} for key in keys
                ]
            }


def measure_listing() -> None:
    """Print the time and memory of grouping a million keys."""
    bucket = IngestBucket.__new__(IngestBucket)
    bucket._s3 = SimulatedS3()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, batches = timed(bucket.batches)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"listing of {BATCHES * KEYS:,} keys: {len(batches):,} batches in {seconds:.1f} s, {grown:,.0f} MB")


def measure_batches(folder: Path, rows: int) -> None:
    """Print the time of a batch's check and of its rows, for a dataset of so many rows."""
    folder.mkdir()
    write_table(folder / "shop" / TABLE, [f"images/{digest(number)}.png" for number in range(rows)], rows)
    opened, dataset = timed(lambda: Dataset(folder / "shop"))
    checked = 0.0
    for batch in range(SENT):
        images = write_images(folder / str(batch), PER_BATCH, first=batch * PER_BATCH)
        write_table(folder / str(batch) / TABLE, list(images), rows + batch)

        def add(batch: int = batch, images: dict[str, Path] = images) -> None:
            verdict = check_batch(folder / str(batch) / TABLE, images, dataset, RULES)
            assert len(verdict.accepted) == PER_BATCH
            dataset.add(verdict, images, ARRIVED)

        checked += timed(add)[0]
    saved, _ = timed(dataset.save)
    print(
        f"dataset of {rows:,}: opened in {opened:.2f} s, a batch of {PER_BATCH} images in "
        f"{1000 * checked / SENT:.0f} ms, {SENT} batches appended in {1000 * saved:.0f} ms"
    )


def measure_images(folder: Path) -> None:
    """Print the time an image takes in `prepare`: new, unchanged, and checked out again."""
    images = write_images(folder, IMAGES, first=0)
    table = {"image": list(images), "pid": 1, "camid": 0, "time_s": 0.0, "split": "gallery", "domain": "shop"}
    manifest = Manifest(pd.DataFrame(table), folder)
    for state in ("new", "unchanged", "checked out again"):
        if state == "checked out again":
            for path in images.values():
                path.touch()
        seconds, _ = timed(lambda: verify_images(manifest, CheckedImages(folder / "checked.parquet")))
        print(f"an image of 128 x 64 that is {state}: {1e6 * seconds / IMAGES:.0f} us")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor's seconds of a call, which other processes change little, and its result."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def digest(number: int) -> str:
    """Return the sha256 of a number's text."""
    return sha256(str(number).encode()).hexdigest()


def write_table(path: Path, images: list[str], seed: int) -> None:
    """Write a table of unlabelled sightings."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"camid": rng.integers(0, 8, len(images)), "time_s": rng.uniform(0, 1e5, len(images)).round(2)}
    pd.DataFrame({"image": images, "pid": "", **columns, "split": "", "arrived": ARRIVED}).to_csv(
        path, index=False, lineterminator="\n"
    )


def write_images(folder: Path, count: int, first: int) -> dict[str, Path]:
    """Write images of noise, each drawn by its number, and return their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {f"{number:06d}.jpg": folder / f"{number:06d}.jpg" for number in range(first, first + count)}
    for number, path in enumerate(paths.values(), first):
        pixels = np.random.default_rng(number).integers(0, 256, (128, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
    return paths


if __name__ == "__main__":
    main()
