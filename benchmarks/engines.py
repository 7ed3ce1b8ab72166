"""Compare the galleries' SQLite with LanceDB: commits, maps by id, vectors, and what a deletion leaves in the files.

`python -m benchmarks.engines` runs it; it needs `pip install lancedb==0.40.0`. Values are random.
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module, util
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from rich.console import Console

from qaconv.runtime.quantise import Codes
from qaconv.runtime.shortlist import LANDMARKS
from qaconv.runtime.vectors import Vectors, inner_products
from qaconv.serving.storage import Records

SIGHTINGS = 40_000
STEP = 10_000  # stored at a time at first
ADDED, FETCHED, TURNS = 128, 500, 15
SHAPE = (64, 12, 6)
CROP = b"a crop"
RNG = np.random.default_rng(0)
console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Print the figures."""
    if util.find_spec("lancedb") is None:
        sys.exit("lancedb was not found; `pip install lancedb==0.40.0` installs it")
    for name, measure in (("SQLite", sqlite), ("LanceDB", lance)):
        with TemporaryDirectory() as folder:
            for line in measure(Path(folder)):
                console.print(f"{name}: {line}")


def draw_codes(count: int) -> Codes:
    channels, height, width = SHAPE
    codes = RNG.integers(-127, 128, (count, height * width, channels), dtype=np.int8)
    return Codes(codes, np.ones((count, height * width), dtype=np.float16))


def draw_ids() -> list[int]:
    return sorted((1 + RNG.choice(SIGHTINGS, FETCHED, replace=False)).tolist())


def ms(call: Callable[[], object]) -> str:
    seconds = []
    for _ in range(TURNS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return f"median {1000 * median(seconds):.1f} ms"


def files_with(folder: Path, data: bytes) -> int:
    return sum(data in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def sqlite(folder: Path) -> list[str]:
    """Measure the galleries' store."""
    records = Records(folder)

    def add(count: int) -> None:
        records.add([("mall", 0, None, None, 0.0, None, None, CROP)] * count, "encoder", draw_codes(count))

    for _ in range(SIGHTINGS // STEP):
        add(STEP)
    codes = RNG.integers(-127, 128, (SIGHTINGS, LANDMARKS), dtype=np.int8)
    vectors = Vectors(codes, np.ones(SIGHTINGS, dtype=np.float32))
    query = RNG.standard_normal(LANDMARKS, dtype=np.float32)
    lines = [
        f"commit of {ADDED}: {ms(lambda: add(ADDED))}",
        f"{FETCHED} maps by id: {ms(lambda: records.maps_of(draw_ids(), 'encoder', SHAPE))}",
        f"best {FETCHED} of {SIGHTINGS:,}: {ms(lambda: np.argpartition(-inner_products(query, vectors), FETCHED))}",
    ]
    one = records.maps_of([SIGHTINGS // 3], "encoder", SHAPE)[1].codes[0, :2].tobytes()
    before = files_with(folder, one)
    began = time.perf_counter()
    records.delete([SIGHTINGS // 3])
    lines.append(
        f"delete one: {1000 * (time.perf_counter() - began):.1f} ms; files with its bytes: {before}, "
        f"afterwards {files_with(folder, one)}"
    )
    records.close()
    return lines


def lance(folder: Path) -> list[str]:
    """Measure a table with ids, vectors and maps, indexed by id."""
    ids = iter(range(1, 10**9))

    def rows(count: int) -> pa.Table:
        vectors = pa.array(RNG.standard_normal(count * LANDMARKS, dtype=np.float32).astype(np.float16))
        return pa.table(
            {
                "id": pa.array([next(ids) for _ in range(count)], pa.int64()),
                "vector": pa.FixedSizeListArray.from_arrays(vectors, LANDMARKS),
                "map": pa.array([codes.tobytes() for codes in draw_codes(count).codes], pa.binary()),
            }
        )

    table = import_module("lancedb").connect(folder).create_table("gallery", rows(STEP))
    for _ in range(SIGHTINGS // STEP - 1):
        table.add(rows(STEP))
    lines = [f"commit of {ADDED}: {ms(lambda: table.add(rows(ADDED)))}"]
    table.create_scalar_index("id")
    query = RNG.standard_normal(LANDMARKS, dtype=np.float32)

    def fetch() -> None:
        condition = f"id in ({','.join(map(str, draw_ids()))})"
        table.search().where(condition).select(["id", "map"]).limit(FETCHED).to_arrow()

    lines += [
        f"{FETCHED} maps by id: {ms(fetch)}",
        f"best {FETCHED} of {SIGHTINGS:,}, no index: "
        f"{ms(lambda: table.search(query).distance_type('dot').select(['id']).limit(FETCHED).to_arrow())}",
    ]
    table.optimize()  # small fragments become a large one, as in any table that is in use for long
    row = table.search().where(f"id = {SIGHTINGS // 3}").limit(1).to_arrow()
    one = row["map"][0].as_py()[:128]
    before = files_with(folder, one)
    began = time.perf_counter()
    table.delete(f"id = {SIGHTINGS // 3}")
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    lines.append(
        f"delete one, and optimize without old versions: {1000 * (time.perf_counter() - began):.1f} ms; files with its "
        f"bytes: {before}, afterwards {files_with(folder, one)}"
    )
    return lines


if __name__ == "__main__":
    main()
