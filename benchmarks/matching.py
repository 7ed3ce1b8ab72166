"""Engines against the plain table of cosines, each other and sgemm; what 8 bits cost in mAP; the shortlist; growth.

Maps of simulated people where only time counts; where the ranking counts, the demo's trained network on its own crops.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import sgemm_rate
from benchmarks.table import Bound, Row, compare
from qaconv.config import load_params
from qaconv.data.loading import Crops, Encode, encode_all
from qaconv.data.manifest import JUNK, Manifest
from qaconv.data.transforms import build_augmentation
from qaconv.matching import Neighbours, Shortlist, score_matrix, search
from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.matching.tiles import ENGINES
from qaconv.metrics import evaluate_ranking
from qaconv.models import QAConv
from qaconv.models.checkpoint import Network, load_network
from qaconv.paths import MODELS, PREPARED
from qaconv.release.encoding import fastest
from qaconv.runtime.kernel import KernelMatcher, load_kernel
from qaconv.runtime.locations import as_locations

PAPER = (128, 24, 8)  # C, H, W
DEMO = (64, 12, 6)
SHORTLISTED = 20_000  # images of the gallery
SHORTLIST_QUERIES = 128
GALLERIES = (1_000, 10_000, 100_000)
QUERIES = 16
PLAIN_BLOCKS = {PAPER: (64, 128), DEMO: (256, 256)}  # queries and gallery: their cosines fill 1.2 and 1.4 GB
BLOCKS = (512, 512)  # where no table is written; an evaluation's are larger
TURNS = 9  # where ours takes a tenth of a second, and three would show the machine's moods
BATCH = load_params().evaluate.batch_size  # crops encoded at a time

OUTPUTS = (MODELS / "qaconv", *(PREPARED / name for name in load_params().targets))  # of the demo, measured on


def rows() -> Iterator[Row]:
    """Engines, what they cost in mAP, two stages, growth."""
    for shape in (PAPER, DEMO):
        yield from _engines(shape)
    params = load_params()
    for target in params.targets:
        yield _precision(target)
    yield _two_stages()
    for galleries in GALLERIES:
        head, queries, gallery = _head(DEMO), _maps(QUERIES, DEMO, 1), _maps(galleries, DEMO, 2)
        call = partial(search, queries, gallery, head, top_k=10, engine="int8")
        bound = _products(DEMO, QUERIES * galleries)
        yield compare(f"growth: {QUERIES} queries, gallery {galleries:,}, int8", None, call, bound=bound, items=QUERIES)


def _engines(shape: tuple[int, int, int]) -> Iterator[Row]:
    """At one map shape: exact against the plain table, against torch's tiles, and int8 against exact."""
    count, others = PLAIN_BLOCKS[shape]
    pairs = count * others
    head, queries, gallery = _head(shape), _maps(count, shape, 1), _maps(others, shape, 2)
    label, bound = "x".join(map(str, (*shape[1:], shape[0]))), _products(shape, pairs)
    exact = partial(score_matrix, queries, gallery, head, engine="exact")
    difference = np.abs(exact() - plain_logits(head, queries, gallery).numpy()).max()
    plain = partial(plain_logits, head, queries, gallery)
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


@torch.no_grad()
def plain_logits(head: QAConv, queries: Tensor, gallery: Tensor) -> Tensor:
    """The formula as it stands: every pair's S x S table, then its maxima both ways."""
    folded = head.folded()
    query_weights = torch.from_numpy(folded.query)
    gallery_weights = torch.from_numpy(folded.gallery)
    table = torch.einsum("qcs,gct->qgst", queries.flatten(2), gallery.flatten(2))
    return table.amax(dim=3) @ query_weights + table.amax(dim=2) @ gallery_weights + folded.bias


def _precision(target: str) -> Row:
    """What 8 bits change on one of the demo's targets, and how much sooner they are done."""
    network, manifest = _network(), Manifest.load(PREPARED / target)
    query, gallery = manifest.split("query"), manifest.split("gallery")
    gallery = gallery[gallery["pid"] != JUNK]
    maps = [_encode([manifest.root / image for image in part["image"]]) for part in (query, gallery)]
    logits: dict[str, np.ndarray] = {}

    def keep(engine: str) -> None:
        logits[engine] = score_matrix(maps[0], maps[1], network.head, engine=engine)  # type: ignore[arg-type]

    row = compare(f"{target}: exact, int8", partial(keep, "exact"), partial(keep, "int8"))
    truth = (query["pid"], gallery["pid"], query["camid"], gallery["camid"])
    figures = {engine: 100 * evaluate_ranking(of, *truth).mean_average_precision for engine, of in logits.items()}
    difference = figures["int8"] - figures["exact"]
    return replace(row, note=f"mAP {figures['exact']:.2f}, int8 {difference:+.3f}")


def _two_stages() -> Row:
    """Crops of all of the demo's sites, varied as in training until there are enough; the sizes by other queries."""
    network = _network()
    crops = _crops("query")
    searched = np.zeros(len(crops), dtype=bool)
    searched[:: len(crops) // SHORTLIST_QUERIES] = True
    maps = _encode(crops)
    queries, samples = maps[searched][:SHORTLIST_QUERIES], maps[~searched]
    gallery = _varied(_crops("gallery"), SHORTLISTED)
    shortlist = Shortlist(gallery, network.head, queries=samples)
    found: dict[str, Neighbours] = {}

    def keep(name: str, call: partial[Neighbours]) -> None:
        found[name] = call()

    row = compare(
        f"gallery {SHORTLISTED:,}: exact, shortlist",
        partial(keep, "exact", partial(search, queries, gallery, network.head, top_k=10)),
        partial(keep, "shortlist", partial(shortlist.search, queries)),
        turns=TURNS,
        items=len(queries),
    )
    both = zip(found["exact"].indices, found["shortlist"].indices, strict=True)
    recall = np.mean([len(set(one) & set(other)) / len(one) for one, other in both])
    sizes = ", ".join(f"{size:,}" for size in shortlist.calibration.sizes)
    note = f"finds {recall:.2%} of exact's top 10; {shortlist.calibration.recall:.2%} when sizes {sizes} were chosen"
    return replace(row, note=note)


@cache
def _network() -> Network:
    return load_network(MODELS / "qaconv")[0]


@cache
def _encoder() -> Encode:
    return fastest(_network(), torch.device("cpu"))


def _crops(split: str) -> list[Path]:
    """All targets' crops of one split; the gallery takes in the training images."""
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
    """`count` maps: each crop as it is, then moved, mirrored, recoloured and occluded as in training."""
    params = load_params()
    crops, vary = Crops(paths, params.image), build_augmentation(params.augment, params.image)
    maps = _encode(paths)
    chosen = [index % len(paths) for index in range(count - len(maps))]
    parts = (chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        varied = list(_encoder().each(torch.stack([vary(crops[index]) for index in part]) for part in parts))
    return torch.cat([maps, *varied]).clone()


def _products(shape: tuple[int, int, int], pairs: int) -> Bound:
    """All products of locations at sgemm's rate."""
    channels, height, width = shape
    return Bound(
        f"sgemm at {sgemm_rate() / 1e9:.0f} GFLOP/s", 2 * pairs * (height * width) ** 2 * channels / sgemm_rate()
    )


def _head(shape: tuple[int, int, int]) -> QAConv:
    return QAConv(*shape).eval()


def _maps(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Unit maps [count, C, H, W] of a thousand simulated people, laid out as a store gives them."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    some = F.normalize(torch.randn(min(count, 1000), height * width, channels, generator=generator), dim=2)
    return some.repeat(-(-count // 1000), 1, 1)[:count].transpose(1, 2).unflatten(2, (height, width))
