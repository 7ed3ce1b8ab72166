"""Time a training step: the head alone, the whole step, and what each part of it takes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu.card import matmul_rate
from benchmarks.gpu.plain import plain_head
from benchmarks.gpu.recipe import make_method, train_config
from benchmarks.gpu.record import Figure
from benchmarks.gpu.settings import Setup
from benchmarks.gpu.simulated import images, settled_network, trained_head, unit_maps
from benchmarks.gpu.timing import Cost, measure
from qaconv.models import QAConv, local_max
from qaconv.models.losses.hard_triplet import HardTriplet
from qaconv.training import trainer

IMAGES_EACH = 2
PRECISIONS = {"fp32": None, "fp16": torch.float16}
# The smallest learning rate keeps the same network through all turns.
RECIPE = train_config(epochs=1, lr=1e-6, backbone_lr=1e-6, lr_drop_epoch=1)


def head(setup: Setup) -> Iterator[Figure]:
    """Time forward and backward of the head on a batch of maps with itself."""
    shape, count = setup.sizes.paper, setup.sizes.batch
    maps = unit_maps(np.arange(count) // IMAGES_EACH, shape, 0, device=setup.device)
    same = torch.arange(count, device=setup.device) // IMAGES_EACH
    targets = (same[:, None] == same).float()
    ours = trained_head(shape).train().to(setup.device)
    bound = count**2 * shape.pair_flop / matmul_rate(setup.device, setup.sizes.matrix)
    for precision, dtype in PRECISIONS.items():
        call = partial(_forward_backward, maps=maps, targets=targets, dtype=dtype)
        plain = measure(partial(call, plain_head(ours)), setup.device)
        yield _step_figure(f"head, plain autograd, {precision}", count, plain, bound=bound)
        with patch.object(local_max, "_kernels", lambda maps: None):
            cost = measure(partial(call, ours), setup.device)
        yield _step_figure(f"head, torch's tiles, {precision}", count, cost, bound=bound, plain=plain)
        cost = measure(partial(call, ours), setup.device)
        yield _step_figure(f"head, ours, {precision}", count, cost, bound=bound, plain=plain)


def _forward_backward(head: QAConv, maps: Tensor, targets: Tensor, dtype: torch.dtype | None) -> None:
    maps = maps.detach().requires_grad_()
    with torch.autocast(maps.device.type, dtype, enabled=dtype is not None):
        logits = head(maps, maps)
    F.binary_cross_entropy_with_logits(logits.float(), targets).backward()


def step(setup: Setup, loss: str) -> Iterator[Figure]:
    """Time a whole step in half precision, of images that are on the GPU: encoder, loss and optimiser."""
    count = setup.sizes.batch
    plain: Cost | None = None
    for name in ("plain autograd", "ours"):
        call = partial(learner(setup, loss, plain=name != "ours"), *batch(setup), 0)
        cost = measure(call, setup.device)
        yield _step_figure(f"step, {loss}, {name}", count, cost, plain=plain)
        plain = cost


def learner(setup: Setup, loss: str, *, plain: bool = False) -> Callable[..., Any]:
    """Return the project's training step, to be called with images, labels and an epoch."""
    network = settled_network(setup)
    if plain:
        network = replace(network, head=plain_head(network.head))
    sampler = "random" if loss == "class_memory" else "pk"
    method = make_method(loss={"kind": loss}, sampler={"kind": sampler})
    made = trainer._Learner(network, RECIPE, method, setup.device, people=setup.sizes.people)
    if loss == "class_memory":
        memory: Any = made.loss
        memory.memory.copy_(unit_maps(np.arange(setup.sizes.people), setup.sizes.paper, 5, device=setup.device))
        memory.seen.fill_(True)
    return made.step


def batch(setup: Setup) -> tuple[Tensor, Tensor]:
    """Return images and labels on the device."""
    count = setup.sizes.batch
    return images(setup, count), torch.arange(count, device=setup.device) // IMAGES_EACH


def split(setup: Setup) -> Iterator[Figure]:
    """Time each part of a step by itself. The optimiser's time is the rest of the whole."""
    network = settled_network(setup)
    encoder = network.encoder.to(memory_format=torch.channels_last)
    pictures, pids = batch(setup)
    half = torch.float16 if setup.device.type == "cuda" else torch.bfloat16
    module = HardTriplet().build(network.head, setup.sizes.people).to(setup.device)
    with torch.autocast(setup.device.type, half), torch.no_grad():
        maps = encoder(pictures)

    def encode() -> None:
        with torch.autocast(setup.device.type, half):
            encoded = encoder(pictures)
        encoded.backward(maps)

    def lose() -> None:
        leaf = maps.detach().requires_grad_()
        with torch.autocast(setup.device.type, half):
            outcome = module(leaf, pids)
        outcome.loss.backward()

    whole = measure(partial(learner(setup, "hard_triplet"), pictures, pids, 0), setup.device).seconds
    costs = {"encoder, forward and backward": measure(encode, setup.device).seconds}
    costs["loss, forward and backward"] = measure(lose, setup.device).seconds
    costs["clipping, scaling and optimiser, the rest"] = max(0.0, whole - sum(costs.values()))
    for name, seconds in costs.items():
        yield Figure(f"of a step, {name}", 100 * seconds / whole, "%", seconds)


def _step_figure(name: str, count: int, cost: Cost, *, bound: float | None = None, plain: Cost | None = None) -> Figure:
    return Figure(
        name,
        count / cost.seconds,
        "images/s",
        cost.seconds,
        "bf16 products, forward alone" if bound else "",
        bound,
        plain.seconds if plain else None,
        cost.peak_bytes,
        f"plain takes {plain.peak_bytes / 1e9:.2f} GB" if plain and plain.peak_bytes else "",
    )
