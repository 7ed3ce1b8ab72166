"""Measure a gallery of any size on disk: space, enrolment, vectors, recall, and searches by four clients at once.

`python -m benchmarks.gallery SIGHTINGS` runs it on the demo's encoder. wrk sends the searches (`apt-get install wrk`).

The maps are put together from those that the demo's trained network makes of drawn people. A simulated person has
BANDS bands of the body, each of another drawn person. A sighting takes each band from one image of that person, on any
camera, and has a little noise. A search asks for a stored sighting, so that no crop is encoded.

With `--times-only` the same maps are stored again and again and vectors are random, on which times do not depend: a
million then takes minutes, and has no recall.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import psutil
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.demo import require_outputs
from benchmarks.machine import describe
from benchmarks.serve import CLIENTS, TARGET, TOP, peak_memory, place_model, send, service
from qaconv.config import load_params
from qaconv.data.manifest import JUNK, Manifest
from qaconv.paths import ONNX, PREPARED, TLIFT
from qaconv.runtime.crops import read_crop
from qaconv.runtime.locations import as_locations
from qaconv.runtime.model import ServedModel
from qaconv.runtime.quantise import quantise
from qaconv.runtime.shortlist import LANDMARKS
from qaconv.runtime.vectors import Vectors
from qaconv.serving.active_version import ActiveVersion
from qaconv.serving.gallery import SIGHTING_BYTES, Filter
from qaconv.serving.indexing import Indexing, digest_matching
from qaconv.serving.map_cache import map_bytes
from qaconv.serving.storage import Records
from qaconv.serving.vector_store import VectorStore

BANDS = 4  # of rows of a map
NOISE = 0.03  # deviation in a channel, before maps have unit length again; a channel's own is 0.125
PER_PERSON = 12
SPAN_S = 8 * 3600.0
CROP_BYTES = 2000  # about a drawn crop's
BATCH = 1024  # sightings stored in a transaction
QUERIES = 64  # whose recall is measured
SEED = 500
console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("sightings", type=int)
    arguments.add_argument("--shortlist", type=int, default=load_params().serve.shortlist)
    arguments.add_argument("--times-only", action="store_true", help="measure no recall")
    arguments.add_argument("--seconds", type=int, default=60, help="of the searches")
    options = arguments.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk was not found; `apt-get install wrk` installs it")
    require_outputs((ONNX, TLIFT / TARGET, *(PREPARED / name for name in load_params().datasets)))
    console.print(f"{describe()['processor']}, {describe()['threads']} threads")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        state = folder / "galleries"
        model = ServedModel(place_model(state), threads=1)
        memory_mb = write_params(folder, options.sightings, options.shortlist)
        people = Crowd(model, options.sightings // PER_PERSON)
        records = Records(state)
        fill(records, state, model, people, options.sightings, repeat=options.times_only)
        if options.times_only:
            draw_vectors(records, model)
        else:
            index(records, model)
            until, _ = records.last_change()
            active = ActiveVersion.load("demo", model, records, Indexing(records, lambda _: None), memory_mb, until)
            recall(records, active, people, options.shortlist)
            del active
        records.close()
        with service(state, folder) as (url, process):
            before = psutil.Process(process.pid).cpu_times()
            drawn = np.random.default_rng(SEED + 1).integers(1, options.sightings + 1, 2000)
            result = send(url, [{"sighting": int(sighting)} for sighting in drawn], options.seconds, folder)
            after = psutil.Process(process.pid).cpu_times()
            console.print(
                f"search over {options.sightings:,}, shortlist {options.shortlist}, {CLIENTS} at once: {result}"
            )
            seconds = after.user + after.system - before.user - before.system
            console.print(f"CPU of a search: {1000 * seconds / max(1, result.searches):.1f} ms of one core")
            console.print(f"memory of the service at most: {peak_memory(process):.0f} MB; serve.memory_mb {memory_mb}")


def write_params(folder: Path, sightings: int, shortlist: int) -> int:
    """Write params.yaml with room for the sightings, and return serve.memory_mb."""
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    needed = -(-4 * SIGHTING_BYTES * sightings // 2**20) + 1
    params["serve"] |= {"memory_mb": max(params["serve"]["memory_mb"], needed), "shortlist": shortlist}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return int(params["serve"]["memory_mb"])


class Crowd:
    """Simulated people.

    Args:
        model: encodes the demo's crops.
        count: number of people.
    """

    def __init__(self, model: ServedModel, count: int) -> None:
        crops, pids = [], []
        for number, name in enumerate(load_params().datasets):
            manifest = Manifest.load(PREPARED / name)
            table = pd.concat([manifest.split(split) for split in ("query", "gallery", "train")])
            for image, pid in zip(table["image"], table["pid"], strict=True):
                if pid != JUNK:
                    crops.append(read_crop((manifest.root / image).read_bytes(), *model.crop_size))
                    pids.append((number, pid))
        self._maps = as_locations(model.encode_batches(crops))
        sources = pd.factorize(pd.Series(pids))[0]
        self._images = np.argsort(sources, kind="stable")
        self._counts = np.bincount(sources)
        self._firsts = np.cumsum(self._counts) - self._counts
        self.rng = np.random.default_rng(SEED)
        self._sources = self.rng.integers(0, len(self._counts), (max(1, count), BANDS))
        console.print(
            f"{len(self._sources):,} people of bands of {len(self._counts)} drawn ones, {len(crops):,} images"
        )

    def draw(self, count: int) -> NDArray[np.float32]:
        """Return maps of random people, [n, S, C]."""
        people = self.rng.integers(0, len(self._sources), count)
        maps = np.empty((count, *self._maps.shape[1:]), dtype=np.float32)
        for band, rows in enumerate(np.array_split(np.arange(maps.shape[1]), BANDS)):
            source = self._sources[people, band]
            images = self._images[self._firsts[source] + self.rng.integers(0, self._counts[source])]
            maps[:, rows] = self._maps[images][:, rows]
        maps += NOISE * self.rng.standard_normal(maps.shape, dtype=np.float32)
        maps /= np.linalg.norm(maps, axis=2, keepdims=True)
        return maps


def fill(records: Records, state: Path, model: ServedModel, people: Crowd, count: int, *, repeat: bool) -> None:
    """Store sightings without the service, and print the rate and the space."""
    cameras = list(model.profiles[TARGET].camids)
    seconds = 0.0
    drawn = quantise(people.draw(BATCH))
    for start in track(range(0, count, BATCH), "store", console=console):
        some = min(BATCH, count - start)
        maps = drawn.take(slice(0, some)) if repeat else quantise(people.draw(some))
        rows = [
            (TARGET, int(camid), float(time_s), None, 0.0, None, None, people.rng.bytes(CROP_BYTES))
            for camid, time_s in zip(people.rng.choice(cameras, some), people.rng.uniform(0, SPAN_S, some), strict=True)
        ]
        began = time.perf_counter()
        records.add(rows, model.encoder_digest, maps)
        seconds += time.perf_counter() - began
    size = sum(path.stat().st_size for path in state.glob("galleries.db*"))
    console.print(
        f"stored {count:,} in {seconds:.0f} s, {1000 * seconds * BATCH / count:.1f} ms for {BATCH}; "
        f"{size / count:,.0f} bytes a sighting on disk, {map_bytes(model.map_shape):,} of them its map"
    )


def index(records: Records, model: ServedModel) -> None:
    """Compute all vectors, and print the time."""
    began, cpu = time.perf_counter(), time.process_time()
    Indexing(records, lambda _: None).prepare(model, TARGET)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    ids = records.count_maps(model.encoder_digest, [TARGET])
    batch = np.zeros((16, *model.crop_size, 3), dtype=np.uint8)
    model.encode(batch)
    encoding = time.process_time()
    for _ in range(20):
        model.encode(batch)
    encode_ms = 1000 * (time.process_time() - encoding) / (20 * len(batch))
    console.print(
        f"vectors of {ids:,} in {seconds:.0f} s: {1000 * cpu / ids:.2f} ms of CPU a sighting, "
        f"to encode its crop takes {encode_ms:.2f} ms"
    )


def draw_vectors(records: Records, model: ServedModel) -> None:
    """Store random vectors of landmarks of the gallery."""
    store = VectorStore(records)
    rng = np.random.default_rng(SEED)
    ids = store.ids(model.encoder_digest, TARGET)
    one = store.begin(digest_matching(model), TARGET, ids[:LANDMARKS].tolist(), 0.0, len(ids))
    for start in track(range(0, len(ids), 16 * BATCH), "vectors", console=console):
        some = ids[start : start + 16 * BATCH].tolist()
        codes = rng.integers(-127, 128, (len(some), LANDMARKS), dtype=np.int8)
        store.add(one.number, some, Vectors(codes, np.ones(len(some), dtype=np.float32)))
    store.complete(one.number)


def recall(records: Records, active: ActiveVersion, people: Crowd, shortlist: int) -> None:
    """Print the share of the ten best of full matching that shortlists hold."""
    model, gallery = active.model, active.galleries[TARGET]
    queries = people.draw(QUERIES)
    coded, exact = model.matcher.prepare(quantise(queries)), model.matcher.prepare(queries)
    best = Best(QUERIES)
    in_floats = Best(QUERIES)
    in_codes = Best(QUERIES)
    ids = gallery.ids()
    for start in track(range(0, len(ids), BATCH), "match in full", console=console):
        block, maps = records.maps_of(ids[start : start + BATCH].tolist(), model.encoder_digest, model.map_shape)
        best.add(block, model.matcher.table(coded, maps))
    floats = people.draw(20 * BATCH)
    numbers = list(range(len(floats)))
    in_floats.add(numbers, model.matcher.table(exact, floats))
    in_codes.add(numbers, model.matcher.table(coded, quantise(floats)))
    channels, height, width = model.map_shape
    sizes = dict.fromkeys([shortlist // 2, shortlist, 2 * shortlist, 4 * shortlist])
    for size in sizes:
        listed = [
            gallery.search(model, query.T.reshape(1, channels, height, width), Filter(), size).ids for query in queries
        ]
        share = np.mean([np.isin(top, some).mean() for top, some in zip(best.ids, listed, strict=True)])
        console.print(f"shortlist of {size} of {len(gallery):,}: holds {share:.2%} of the {TOP} best of full matching")
    kept = np.mean([np.isin(top, some).mean() for top, some in zip(in_floats.ids, in_codes.ids, strict=True)])
    console.print(f"8 bits: hold {kept:.2%} of the {TOP} best in float32 of {len(floats):,}")


class Best:
    """The TOP best sightings of each query, [Q, TOP]."""

    def __init__(self, queries: int) -> None:
        self.ids = np.zeros((queries, 0), dtype=np.int64)
        self._scores = np.zeros((queries, 0), dtype=np.float32)

    def add(self, ids: list[int], scores: NDArray[np.float32]) -> None:
        """Add sightings with scores [Q, n]."""
        all_ids = np.concatenate([self.ids, np.tile(np.array(ids, dtype=np.int64), (len(scores), 1))], axis=1)
        all_scores = np.concatenate([self._scores, scores], axis=1)
        order = np.argsort(-all_scores, axis=1)[:, :TOP]
        self.ids = np.take_along_axis(all_ids, order, axis=1)
        self._scores = np.take_along_axis(all_scores, order, axis=1)


if __name__ == "__main__":
    main()
