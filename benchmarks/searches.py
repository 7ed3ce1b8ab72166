"""Compare ways to search a gallery of 10,000 sightings, on the demo's encoder and images.

`python -m benchmarks.searches` runs it.

Each search ranks the gallery roughly and matches the best 500 in full, in one thread. The ways take turns, query by
query. Recall is the share of the ten best of full matching that the 500 hold. The gallery has all images of the demo
except the queries, and mirrored copies of some.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.demo import require_outputs
from qaconv.config import load_params
from qaconv.data.manifest import Manifest
from qaconv.matching.landmarks import LANDMARKS, TEACHERS, Landmarks
from qaconv.paths import ONNX, PREPARED
from qaconv.runtime.contract import MATCHER
from qaconv.runtime.crops import read_crop
from qaconv.runtime.locations import as_locations
from qaconv.runtime.model import ServedModel
from qaconv.runtime.quantise import quantise
from qaconv.runtime.sessions import open_graph
from qaconv.runtime.shortlist import average_rows

TARGET = "mall"
ENROLLED = 10_000
QUERIES = 32
TURNS = 3  # of the additions; the fastest counts
TOP = 10
ADDED = 8  # sightings whose addition is timed
ROWS_TILE = 512
ONNX_TILE = 16
Maps = NDArray[np.float32]
console = Console(soft_wrap=True, highlight=False)


def main() -> None:
    """Print the figures."""
    require_outputs((ONNX, *(PREPARED / name for name in load_params().datasets)))
    with threadpool_limits(1):
        model = ServedModel(ONNX, threads=1)
        queries, gallery = encode_images(model)
        compare(model, queries, gallery)


def encode_images(model: ServedModel) -> tuple[Maps, NDArray[np.float16]]:
    """Encode the target's queries, and ENROLLED other images as they are stored."""
    queries: list[NDArray[np.uint8]] = []
    others: list[NDArray[np.uint8]] = []
    for name in load_params().datasets:
        manifest = Manifest.load(PREPARED / name)
        table = pd.concat([manifest.split(split) for split in ("query", "gallery", "train")])
        for image, split in zip(table["image"], table["split"], strict=True):
            crop = read_crop((manifest.root / image).read_bytes(), *model.crop_size)
            (queries if (name, split) == (TARGET, "query") else others).append(crop)
    mirrored = [crop[:, ::-1] for crop in others]
    gallery = model.encode_batches([*others, *mirrored][:ENROLLED]).astype(np.float16)
    return model.encode_batches(queries[:: max(1, len(queries) // QUERIES)][:QUERIES]), gallery


def compare(model: ServedModel, queries: Maps, gallery: NDArray[np.float16]) -> None:
    """Search by every query in every way, and print times and recalls."""
    shortlist = load_params().serve.shortlist
    rankings = {"row averages, numpy": plain_rows(model, gallery), "row averages, kernel": kernel_rows(model, gallery)}
    matchings = {"ONNX Runtime": onnx_matcher(gallery), "kernel": kernel_matcher(model, gallery)}
    rank_by_landmarks, weigh = landmarks(model, gallery)
    seconds: dict[str, list[float]] = defaultdict(list)
    recalls: dict[str, list[float]] = defaultdict(list)
    shortlists: dict[str, NDArray[np.intp]] = {}
    for query in queries:
        best = np.argsort(-timed(seconds["all"], model.score, query[None], gallery)[0])[:TOP]
        for name, rank in rankings.items():
            scores = timed(seconds[name], rank, query)
            shortlists[name] = np.argpartition(-scores, shortlist)[:shortlist]
            recalls[name].append(float(np.isin(best, shortlists[name]).mean()))
        for name, match in matchings.items():
            timed(seconds[name], match, query, shortlists["row averages, kernel"])
        timed(seconds["landmarks"], rank_by_landmarks, query)
    for name in rankings:
        console.print(f"rank {len(gallery):,} by {name}: {ms(seconds[name])}, recall {np.mean(recalls[name]):.2%}")
    console.print(f"rank {len(gallery):,} by landmarks: {ms(seconds['landmarks'])}")
    for name in matchings:
        console.print(f"match {shortlist} in full by {name}: {ms(seconds[name])}")
    console.print(f"match {len(gallery):,} in full by the kernel: {ms(seconds['all'])}")
    new = as_locations(gallery[:ADDED])
    for _ in range(TURNS):
        timed(seconds["add rows"], average_rows, new, gallery.shape[3])
        timed(seconds["add landmarks"], weigh, new)
    _, channels, height, _ = gallery.shape
    for name, size in (("rows", channels * height), ("landmarks", LANDMARKS)):
        added_ms = 1000 * min(seconds[f"add {name}"]) / ADDED
        console.print(f"{name}: {added_ms:.3g} ms to add a sighting, {4 * size:,} bytes for it")


def timed(seconds: list[float], call: Callable[..., Maps], *arguments: NDArray[Any]) -> Maps:
    began = time.perf_counter()
    result = call(*arguments)
    seconds.append(time.perf_counter() - began)
    return result


def ms(seconds: list[float]) -> str:
    return f"median {1000 * median(seconds):.1f} ms, least {1000 * min(seconds):.1f} ms"


def plain_rows(model: ServedModel, gallery: NDArray[np.float16]) -> Callable[[Maps], Maps]:
    """Rank by row averages with numpy's products and maxima, as the service did before it used the kernel."""
    height, width = gallery.shape[2:]
    rows = average_rows(as_locations(gallery), width)
    query_weights, gallery_weights = (
        weights.reshape(height, -1).sum(axis=1) for weights in (model.head.query, model.head.gallery)
    )

    def rank(query: Maps) -> Maps:
        (averages,) = average_rows(as_locations(query[None], threads=1), width)
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), ROWS_TILE):
            tile = rows[start : start + ROWS_TILE]
            cosines = averages @ tile.transpose(1, 2, 0)
            best = query_weights @ cosines.max(axis=0) + gallery_weights @ cosines.max(axis=1)
            scores[start : start + len(tile)] = best
        return scores

    return rank


def kernel_rows(model: ServedModel, gallery: NDArray[np.float16]) -> Callable[[Maps], Maps]:
    """Rank by row averages as the service does."""
    rows = average_rows(as_locations(gallery), gallery.shape[3])
    return lambda query: model.row_scorer.score(as_locations(query[None], threads=1), rows)[0]


def landmarks(
    model: ServedModel, gallery: NDArray[np.float16]
) -> tuple[Callable[[Maps], Maps], Callable[[Maps], Maps]]:
    """Rank by the first images of the gallery as landmarks, and compute the weights of new sightings.

    The gallery's weights are random: to compute them would match ENROLLED x TEACHERS pairs, and times do not depend on
    them.
    """
    fitted = Landmarks(model.matcher, quantise(as_locations(gallery[:TEACHERS])))
    weights = np.random.default_rng(0).standard_normal((len(gallery), len(fitted)), dtype=np.float32)

    def rank(query: Maps) -> Maps:
        prepared = model.matcher.prepare(quantise(as_locations(query[None], threads=1)))
        scores: Maps = fitted.estimate(prepared, weights)[0]
        return scores

    return rank, lambda new: fitted.weights(quantise(new))


def onnx_matcher(gallery: NDArray[np.float16]) -> Callable[[Maps, NDArray[np.intp]], Maps]:
    """Match by matcher.onnx, ONNX_TILE images at a time, as the service did before it used the kernel."""
    session = open_graph(ONNX / MATCHER, threads=1)

    def match(query: Maps, chosen: NDArray[np.intp]) -> Maps:
        maps = gallery[chosen]
        logits = np.empty(len(maps), dtype=np.float32)
        for start in range(0, len(maps), ONNX_TILE):
            tile = maps[start : start + ONNX_TILE].astype(np.float32)
            (scores,) = session.run(None, {"query_maps": query[None], "gallery_maps": tile})
            logits[start : start + len(tile)] = scores[0]
        return logits

    return match


def kernel_matcher(model: ServedModel, gallery: NDArray[np.float16]) -> Callable[[Maps, NDArray[np.intp]], Maps]:
    """Match by the kernel, as the service does."""
    stored = as_locations(gallery).astype(np.float16)

    def match(query: Maps, chosen: NDArray[np.intp]) -> Maps:
        logits: Maps = model.matcher.table(model.matcher.prepare(as_locations(query[None], threads=1)), stored[chosen])[
            0
        ]
        return logits

    return match


if __name__ == "__main__":
    main()
