"""Time the engines, a two-stage search and growing galleries, and measure what 8 bits change in mAP.

Where only time counts, maps are simulated. Where the ranking counts, they are the demo's, by its trained network.
Q queries, G gallery images, C channels, H x W map size, S = H*W locations.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.demo import labelled_targets
from benchmarks.gpu.plain import plain_logits
from benchmarks.machine import sgemm_rate
from benchmarks.table import Bound, Row, compare
from qaconv.config import load_params
from qaconv.data.loading import Batch, Crops, Encode, encode_all
from qaconv.data.manifest import JUNK, Manifest
from qaconv.data.transforms import build_augmentation
from qaconv.matching import Neighbours, Shortlist, score_matrix, search
from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.matching.tiles import ENGINES
from qaconv.metrics import evaluate_ranking
from qaconv.models import QAConv
from qaconv.models.checkpoint import Network, load_network
from qaconv.models.description import ENCODER_GRAPH
from qaconv.paths import MODELS, PREPARED
from qaconv.release.encoding import fastest
from qaconv.runtime.kernel import KernelMatcher, load_kernel
from qaconv.runtime.locations import as_locations
from qaconv.training.methods.trained import TrainedMethod

PAPER = (128, 24, 8)  # C, H, W
DEMO = (64, 12, 6)
SHORTLISTED = 20_000  # images in the gallery
SHORTLIST_QUERIES = 128
GALLERIES = (1_000, 10_000, 100_000)
QUERIES = 16
PLAIN_BLOCKS = {PAPER: (64, 128), DEMO: (256, 256)}  # queries and gallery images, whose cosines take 1.2 and 1.4 GB
ONE_TABLE = 4 << 30  # bytes: more than the cosines of a plain block, which are computed at once
BLOCKS = (512, 512)  # queries and gallery images where no cosine is stored
TURNS = 9  # of short calls, whose times vary more
BATCH = load_params().evaluate.batch_size  # crops encoded at a time

METHOD = load_params().registry.method
OUTPUTS = (MODELS / METHOD, *(PREPARED / name for name in load_params().targets))  # of the demo, which are needed


def rows() -> Iterator[Row]:
    """Compare the engines, in time and in mAP, then time the two-stage search and galleries of growing size."""
    for shape in (PAPER, DEMO):
        yield from _engines(shape)
    for target in labelled_targets():
        yield _precision(target)
    yield _two_stages()
    for galleries in GALLERIES:
        head, queries, gallery = _head(DEMO), _maps(QUERIES, DEMO, 1), _maps(galleries, DEMO, 2)
        call = partial(search, queries, gallery, head, top_k=10, engine="int8")
        bound = _products(DEMO, QUERIES * galleries)
        yield compare(f"growth: {QUERIES} queries, gallery {galleries:,}, int8", None, call, bound=bound, items=QUERIES)


def _engines(shape: tuple[int, int, int]) -> Iterator[Row]:
    """Compare exact with the plain table and with torch's tiles, and int8 with exact, at one map shape."""
    count, others = PLAIN_BLOCKS[shape]
    pairs = count * others
    head, queries, gallery = _head(shape), _maps(count, shape, 1), _maps(others, shape, 2)
    label, bound = "x".join(map(str, (*shape[1:], shape[0]))), _products(shape, pairs)
    exact = partial(score_matrix, queries, gallery, head, engine="exact")
    plain = partial(plain_logits, head.folded(), queries, gallery, table_bytes=ONE_TABLE)
    difference = np.abs(exact() - plain().numpy()).max()
    row = compare(f"{label}: einsum, exact", plain, exact, turns=TURNS, bound=bound, items=pairs)
    assert row.plain is not None
    most = row.plain.seconds / bound.seconds
    yield replace(row, note=f"differ by at most {difference:.0e}; sgemm's rate would be {most:.1f}x the einsum's")
    tiles = TorchMatcher(head.folded(), torch.device("cpu"))
    locations = as_locations(gallery.numpy())
    in_torch = partial(tiles.table, tiles.prepare(as_locations(queries.numpy())), locations)
    yield compare(f"{label}: torch's tiles, exact", in_torch, exact, bound=bound, items=pairs)
    if (kernel := load_kernel()) is not None:
        vectors = KernelMatcher(head.folded(), kernel, amx=False)
        in_vectors = partial(vectors.table, vectors.prepare(as_locations(queries.numpy())), locations)
        yield compare(f"{label}: the kernel without AMX, exact", in_vectors, exact, bound=bound, items=pairs)
    count, others = BLOCKS
    pairs, queries, gallery = count * others, _maps(count, shape, 1), _maps(others, shape, 2)
    calls = (partial(score_matrix, queries, gallery, head, engine=engine) for engine in ENGINES)
    bound, note = _products(shape, pairs), "bound is float32's"
    yield compare(f"{label}: exact, int8", *calls, bound=bound, items=pairs, note=note)


def _precision(target: str) -> Row:
    """Compare the time and the mAP of 8 bits with exact's on one of the demo's targets."""
    network, manifest = _network(), Manifest.load(PREPARED / target)
    query, gallery = manifest.split("query"), manifest.split("gallery")
    gallery = gallery[gallery["pid"] != JUNK]
    maps = [_encode([manifest.root / image for image in part["image"]]) for part in (query, gallery)]
    logits: dict[str, NDArray[np.float32]] = {}

    def keep(engine: str) -> None:
        logits[engine] = score_matrix(maps[0], maps[1], network.head, engine=engine)  # type: ignore[arg-type]

    row = compare(f"{target}: exact, int8", partial(keep, "exact"), partial(keep, "int8"))
    truth = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    figures = {
        engine: 100 * evaluate_ranking(scores, *truth).mean_average_precision for engine, scores in logits.items()
    }
    difference = figures["int8"] - figures["exact"]
    return replace(row, note=f"mAP {figures['exact']:.2f}, int8 {difference:+.3f}")


def _two_stages() -> Row:
    """Search crops of all the demo's sites, augmented as in training; the sizes are chosen by other queries."""
    network = _network()
    crops = _crops("query")
    searched = np.zeros(len(crops), dtype=bool)
    searched[:: len(crops) // SHORTLIST_QUERIES] = True
    maps = _encode(crops)
    queries, samples = maps[searched][:SHORTLIST_QUERIES], maps[~searched]
    gallery = _varied(_crops("gallery"), SHORTLISTED)
    shortlist = Shortlist(gallery, network.head, queries=samples)
    results: dict[str, Neighbours] = {}

    def keep(name: str, call: partial[Neighbours]) -> None:
        results[name] = call()

    row = compare(
        f"gallery {SHORTLISTED:,}: exact, shortlist",
        partial(keep, "exact", partial(search, queries, gallery, network.head, top_k=10)),
        partial(keep, "shortlist", partial(shortlist.search, queries)),
        turns=TURNS,
        items=len(queries),
    )
    both = zip(results["exact"].indices, results["shortlist"].indices, strict=True)
    recall = np.mean([len(set(exact) & set(short)) / len(exact) for exact, short in both])
    sizes = ", ".join(f"{size:,}" for size in shortlist.calibration.sizes)
    note = f"finds {recall:.2%} of exact's top 10; {shortlist.calibration.recall:.2%} when sizes {sizes} were chosen"
    return replace(row, note=note)


@cache
def _network() -> Network:
    return load_network(MODELS / METHOD)[0]


@cache
def _encoder() -> Encode:
    return fastest(_network(), MODELS / METHOD / ENCODER_GRAPH, torch.device("cpu"))


def _crops(split: str) -> list[Path]:
    """List the crops of one split of all targets; the gallery includes the training images."""
    paths = []
    for target in load_params().targets:
        manifest = Manifest.load(PREPARED / target)
        chosen = manifest.frame["split"] == split
        if split == "gallery":
            chosen |= manifest.frame["split"] == "train"
        paths += [manifest.root / image for image in manifest.frame.loc[chosen, "image"]]
    return paths


def _encode(paths: list[Path]) -> Tensor:
    size = _network().architecture.image
    return encode_all(_encoder(), paths, size, batch_size=BATCH)


def _varied(paths: list[Path], count: int) -> Tensor:
    """Return `count` maps: of each crop unchanged, then of crops augmented as in training."""
    settings = load_params().method(METHOD)
    assert isinstance(settings, TrainedMethod)
    crops, vary = Crops(paths, settings.image), build_augmentation(settings.augment, settings.image)
    maps = _encode(paths)
    chosen = [index % len(paths) for index in range(count - len(maps))]
    parts = (chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        varied = list(_encoder().each(Batch(torch.stack([vary(crops[index]) for index in part])) for part in parts))
    return torch.cat([maps, *varied]).clone()


def _products(shape: tuple[int, int, int], pairs: int) -> Bound:
    """Return the time of all products of locations at sgemm's rate."""
    channels, height, width = shape
    return Bound(
        f"sgemm at {sgemm_rate() / 1e9:.0f} GFLOP/s", 2 * pairs * (height * width) ** 2 * channels / sgemm_rate()
    )


def _head(shape: tuple[int, int, int]) -> QAConv:
    return QAConv(*shape).eval()


def _maps(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Return unit maps [count, C, H, W] of a thousand simulated people, in a store's layout."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    people = F.normalize(torch.randn(min(count, 1000), height * width, channels, generator=generator), dim=2)
    maps: Tensor = people.repeat(-(-count // 1000), 1, 1)[:count].transpose(1, 2).unflatten(2, (height, width))
    return maps
