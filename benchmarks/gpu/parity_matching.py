"""Compare matching, ranking, the graph sampler and re-ranking on the GPU with the CPU."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu.plain import plain_logits
from benchmarks.gpu.record import Check, Row, at_most
from benchmarks.gpu.settings import Setup, Shape
from benchmarks.gpu.simulated import trained_head, unit_maps
from benchmarks.matched import match_maps
from qaconv.data.samplers.graph import graph_batches
from qaconv.matching import score_matrix, search
from qaconv.matching.rerankers import KReciprocal
from qaconv.matching.target_reranking import make_pair_distances, rerank_target
from qaconv.matching.tiles import choose_matcher
from qaconv.metrics import evaluate_ranking
from qaconv.models import QAConv
from qaconv.runtime.locations import as_locations
from qaconv.runtime.quantise import dequantise, quantise

KERNEL_LIMIT = 5e-4  # logits, against the formula on the rounded maps that the kernel multiplies
LOGIT_LIMIT = 1e-3  # fraction of the logits' standard deviation, against the formula on float32 maps
FEW_LOCATIONS = 64  # with fewer, the rounding of the maps averages out less
CODES_LIMIT = 2e-3  # the same, of 8-bit maps against the formula on the same codes
TOP = 50
LIMIT_OF_BATCHES = 0.005  # fraction of identities that are in another batch
RERANKED_LIMIT = 1e-3  # mean difference of distances in [0, 1]
MAP_LIMIT = 0.2  # points


def matching(setup: Setup) -> Iterator[Check]:
    """Compare tables and single pairs of every shape with the formula in float64."""
    for shape in setup.sizes.shapes:
        head, (queries, gallery, _) = trained_head(shape), _people(setup.sizes.pairs, shape)
        expected = plain_logits(head.folded(), queries.double(), gallery.double())
        query, other = (as_locations(maps.numpy()) for maps in (queries, gallery))
        rng = np.random.default_rng(0)
        count = min(97, len(queries) * len(gallery))
        rows, columns = (rng.integers(len(maps), size=count) for maps in (queries, gallery))
        matcher, spread = matcher_on_gpu(setup, head), float(expected.std())
        prepared = matcher.prepare(query)
        table = matcher.table(prepared, other)
        error = _largest(table, expected)
        note = f"{type(matcher).__name__}; largest {error:.1e} logits, which spread by {spread:.1f}"
        limit = LOGIT_LIMIT * max(1.0, FEW_LOCATIONS / shape.locations) ** 0.5
        yield at_most(f"{shape} table", error / spread, limit, note)
        if isinstance(prepared, Tensor) and prepared.dtype != torch.float32:  # the GPU's
            rounded = (maps.to(prepared.dtype).double() for maps in (queries, gallery))
            error = _largest(table, plain_logits(head.folded(), *rounded))
            yield at_most(f"{shape} table of {prepared.dtype} maps", error, KERNEL_LIMIT)
        pairs = matcher.pairs(prepared, other, rows, columns)
        error = float(np.abs(pairs - table[rows, columns]).max())
        yield at_most(f"{shape} pairs", error, KERNEL_LIMIT, "against the table")
        coded = matcher.table(matcher.prepare(quantise(query)), quantise(other))
        error = _largest(coded, _of_codes(head, query, other)) / spread
        yield at_most(f"{shape} table of 8-bit maps", error, CODES_LIMIT)


def matcher_on_gpu(setup: Setup, head: QAConv) -> Any:
    """Return the matcher that matching on a GPU chooses; a rehearsal runs the kernel in Triton's interpreter.

    Raises:
        RuntimeError: it is not the kernel, although a map has more than one location.
    """
    from qaconv.matching.engines.cuda import TritonMatcher  # Triton reads its settings when it is imported

    chosen = choose_matcher(head, setup.device)
    if head.height * head.width == 1:
        return chosen
    if setup.rehearsal:
        return TritonMatcher(head.folded(), setup.device)
    if not isinstance(chosen, TritonMatcher):
        raise RuntimeError(f"matching on {setup.device} chooses {type(chosen).__name__}, not TritonMatcher")
    return chosen


def _of_codes(head: QAConv, queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> Tensor:
    """Return float64 logits of what 8 bits keep of the maps [N, S, C]."""
    query_codes, gallery_codes = (torch.from_numpy(dequantise(quantise(maps))) for maps in (queries, gallery))
    kept = (maps.double().transpose(1, 2).unsqueeze(-1) for maps in (query_codes, gallery_codes))
    return plain_logits(head.folded(), *kept)


def _largest(logits: NDArray[np.float32], expected: Tensor) -> float:
    return float(np.abs(logits - expected.double().cpu().numpy()).max())


def ranking(setup: Setup) -> Iterator[Check]:
    """Compare each query's best images, and mAP, on a gallery of simulated people."""
    shape = setup.sizes.demo
    queries, gallery, labels = _people(setup.sizes.ranked, shape)
    head = trained_head(shape)
    top = min(TOP, len(gallery))
    on_cpu = score_matrix(queries, gallery, head)
    on_gpu = score_matrix(queries, gallery, head, device=setup.device)
    spread = float(on_cpu.std())
    yield at_most("logits", float(np.abs(on_cpu - on_gpu).max()) / spread, LOGIT_LIMIT)
    expected = np.sort(on_cpu, axis=1)[:, ::-1][:, :top]
    neighbours = search(queries, gallery, head, top_k=top, device=setup.device)
    chosen = np.take_along_axis(on_cpu, neighbours.indices, axis=1)
    note = "the CPU's logits of the images at each rank, the GPU's ranking against the CPU's: equal up to ties"
    yield at_most(f"top {top}", float(np.abs(chosen - expected).max()) / spread, 2 * LOGIT_LIMIT, note)
    yield _same_map(on_cpu, on_gpu, labels, "mAP")


def _same_map(on_cpu: Any, on_gpu: Any, labels: tuple[Any, Any], name: str) -> Check:
    """Compare the mAP of two tables of scores, with query and gallery on different cameras."""
    cameras = [np.full(len(side), number) for number, side in enumerate(labels)]
    maps = [100 * evaluate_ranking(scores, *labels, *cameras).mean_average_precision for scores in (on_cpu, on_gpu)]
    return at_most(name, abs(maps[0] - maps[1]), MAP_LIMIT, f"{maps[0]:.2f} on the CPU, {maps[1]:.2f} on the GPU")


def sampler(setup: Setup) -> Iterator[Row]:
    """Compare the graph sampler's batches from the scores of the two devices."""
    people, shape = setup.sizes.people, setup.sizes.demo
    maps, head = unit_maps(np.arange(people), shape, 3), trained_head(shape)
    labels, batches = np.arange(people).repeat(4), []
    identities = min(32, people // 2)
    for device in (None, setup.device):
        scores = score_matrix(maps, maps, head, device=device)
        drawn = graph_batches(labels, scores, identities=identities, images=2, rng=np.random.default_rng(0))
        batches.append([{int(labels[draw.row]) for draw in batch} for batch in drawn])
    missing = sum(len(on_cpu - on_gpu) for on_cpu, on_gpu in zip(*batches, strict=True))
    note = f"fraction of the identities of {len(batches[0])} batches that the other device's batch does not have"
    yield at_most("batches", missing / (identities * len(batches[0])), LIMIT_OF_BATCHES, note)


def rerank(setup: Setup) -> Iterator[Check]:
    """Compare re-ranked distances, computed as in the stages: neighbours from tiles, and single pairs on request."""
    queries, shape = setup.sizes.ranked[0], setup.sizes.demo
    images, gallery, labels = _people((queries, min(600, setup.sizes.ranked[1])), shape)
    maps, head = torch.cat([images, gallery]), trained_head(shape)
    rankings = []
    for device in (torch.device("cpu"), setup.device):
        everyone = np.ones(len(maps), dtype=bool)
        with TemporaryDirectory() as folder:
            store, matches = match_maps(maps.numpy(), head, queries, Path(folder), device=device)
            distances_of = make_pair_distances(store, head, "exact", device)
            rankings.append(rerank_target(KReciprocal(), matches, distances_of, everyone)[0][:])
    yield at_most("distances, on average", float(np.abs(rankings[0] - rankings[1]).mean()), RERANKED_LIMIT)
    yield _same_map(rankings[0], rankings[1], labels, "mAP")


def _people(count: tuple[int, int], shape: Shape) -> tuple[Tensor, Tensor, tuple[Any, Any]]:
    """Make maps of queries and of a gallery that shows each of them several times; return them with both labels."""
    labels = np.arange(count[0]), np.arange(count[1]) % (4 * count[0])
    queries, gallery = (unit_maps(side, shape, seed) for seed, side in enumerate(labels))
    return queries, gallery, labels
