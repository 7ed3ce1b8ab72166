"""Time matching: a table of pairs, the same with maps on the host, and the graph sampler's pairs of identities."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.gpu.card import matmul_rate
from benchmarks.gpu.parity_matching import matcher_on_gpu
from benchmarks.gpu.plain import plain_logits
from benchmarks.gpu.record import Figure
from benchmarks.gpu.settings import Setup, Shape
from benchmarks.gpu.simulated import trained_head, unit_maps
from benchmarks.gpu.timing import measure
from qaconv.matching import score_matrix

BOUND = "bf16 products"


def matching(setup: Setup, name: str) -> Iterator[Figure]:
    """Measure pairs a second at one shape, with the authors' einsum on the same maps as the plain form."""
    shape: Shape = getattr(setup.sizes, name)
    labels = [np.arange(count) for count in setup.sizes.timed_pairs]
    queries, gallery = (unit_maps(side, shape, seed, device=setup.device) for seed, side in enumerate(labels))
    pairs = len(queries) * len(gallery)
    head = trained_head(shape)
    bound = pairs * shape.pair_flop / matmul_rate(setup.device, setup.sizes.matrix)
    plain = {}
    for precision, dtype in {"fp32": torch.float32, "fp16": torch.float16}.items():
        maps = queries.to(dtype), gallery.to(dtype)
        cost = measure(partial(plain_logits, head.folded(), *maps), setup.device, turns=2)
        plain[precision] = cost.seconds
        what = f"{shape}: authors' einsum, {precision}"
        yield Figure(what, pairs / cost.seconds, "pairs/s", cost.seconds, BOUND, bound, peak_bytes=cost.peak_bytes)
    matcher = matcher_on_gpu(setup, head)
    query, other = (matcher.prepare(maps.flatten(2).transpose(1, 2).contiguous()) for maps in (queries, gallery))
    cost = measure(partial(matcher.table_on_device, query, other), setup.device)
    note = f"{type(matcher).__name__}; {plain['fp32'] / cost.seconds:.3g}x the einsum in fp32, plain is fp16"
    calls = {f"{len(queries)} x {len(gallery)}, maps and logits on the GPU": (cost, note)}
    on_host = queries.cpu(), gallery.cpu()
    cost = measure(partial(score_matrix, *on_host, head, device=setup.device), setup.device, turns=2)
    calls["score_matrix, maps on the host"] = cost, ""
    for what, (cost, note) in calls.items():
        rate, name = pairs / cost.seconds, f"{shape}: {what}"
        yield Figure(name, rate, "pairs/s", cost.seconds, BOUND, bound, plain["fp16"], cost.peak_bytes, note)


def graph(setup: Setup) -> Iterator[Figure]:
    """Time one image of each identity against every other, which each epoch of the graph sampler begins with."""
    shape, head = setup.sizes.paper, trained_head(setup.sizes.paper)
    for people in (setup.sizes.people, setup.sizes.many_people):
        maps = unit_maps(np.arange(people), shape, 0, device=setup.device).cpu()
        cost = measure(partial(score_matrix, maps, maps, head, device=setup.device), setup.device, turns=1)
        pairs = people * (people + 1) // 2  # the head is symmetric: each pair is matched once
        bound = pairs * shape.pair_flop / matmul_rate(setup.device, setup.sizes.matrix)
        note = f"{pairs / cost.seconds:,.0f} pairs/s; maps on the host, each pair once"
        name = f"graph of {people:,} identities, {shape}"
        yield Figure(name, cost.seconds, "s", cost.seconds, BOUND, bound, peak_bytes=cost.peak_bytes, note=note)
