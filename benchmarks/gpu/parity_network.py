"""Compare the encoder, the head and the losses on the GPU with plain forms of them on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.plain import PlainHead, plain_head
from benchmarks.gpu.record import Check, at_most
from benchmarks.gpu.settings import Setup, Shape
from benchmarks.gpu.simulated import images, settled_network, trained_head, unit_maps
from qaconv.models import QAConv
from qaconv.plugins import find

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
# Relative difference of the whole output. Random weights magnify rounding a hundredfold, in fp16 (5e-4) as in fp32.
ENCODER_LIMITS = {"fp32": 1e-4, "fp32 as set": 1e-4, "fp16": 0.1, "bf16": 0.6}
HEAD_LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
# Relative differences of the loss, the gradient of the maps and that of the weights. Where two locations match nearly
# equally well, half precision picks the other one, which changes the gradient of the maps: by a tenth on the CPU, too.
# In fp32 a single one of the hard triplet's 49,000 winners changes that gradient by 0.006.
LOSS_LIMITS = {"fp32": (1e-5, 2e-2, 1e-3), "fp16": (1e-2, 0.25, 0.1)}
IMAGES_EACH = 2  # of a person


def encoder(setup: Setup) -> Iterator[Check]:
    """Compare maps with those of the CPU in float32."""
    network = settled_network(setup)
    batch = images(setup, 8)
    on_cpu = deepcopy(network.encoder).cpu()
    with torch.no_grad():
        expected = on_cpu(batch.cpu())
        with float32_products():
            yield at_most("fp32 maps", difference(network.encoder(batch), expected), ENCODER_LIMITS["fp32"])
        as_set = difference(network.encoder(batch), expected)
        note = f"TF32 convolutions are {'on' if torch.backends.cudnn.allow_tf32 else 'off'}, as the project sets them"
        yield at_most("fp32 maps as set", as_set, ENCODER_LIMITS["fp32 as set"], note)
        for name, dtype in HALF.items():
            with torch.autocast(setup.device.type, dtype):
                maps = network.encoder(batch)
            yield at_most(f"{name} autocast maps", difference(maps, expected), ENCODER_LIMITS[name])


def head(setup: Setup) -> Iterator[Check]:
    """Compare logits in both modes, and the statistics that training updates, with the plain head in float64."""
    shape = setup.sizes.paper
    labels = np.arange(setup.sizes.batch) // IMAGES_EACH
    maps, others = unit_maps(labels, shape, 1), unit_maps(labels[::-1].copy(), shape, 2)[: len(labels) // 2]
    for training in (False, True):
        trained = trained_head(shape).train(training)
        mode = "train" if training else "eval"
        for what, gallery in (("a batch with itself", maps), ("a batch with others", others)):
            plain = plain_head(trained).double()
            expected = plain(maps.double(), gallery.double())
            for name, dtype in {"fp32": None, **HALF}.items():
                ours = deepcopy(trained).to(setup.device)
                query = maps.to(setup.device)
                other = query if gallery is maps else gallery.to(setup.device)
                with float32_products(), torch.autocast(setup.device.type, dtype, enabled=dtype is not None):
                    logits = ours(query, other)
                yield at_most(f"{mode}, {what}, {name}", difference(logits, expected), HEAD_LIMITS[name])
                if training and dtype is None:
                    yield at_most(f"{mode}, {what}, statistics", _statistics(ours, plain), HEAD_LIMITS[name])


def _statistics(ours: nn.Module, plain: nn.Module) -> float:
    """Return the largest relative difference of the two heads' buffers."""
    expected = dict(plain.named_buffers())
    return max(difference(value, expected[name]) for name, value in ours.named_buffers() if value.is_floating_point())


def loss(setup: Setup, name: str) -> Iterator[Check]:
    """Compare a loss and its gradients with the plain head's on the CPU in float64."""
    shape = Shape(1, 1, setup.sizes.paper.channels) if name == "identity" else setup.sizes.paper
    labels = np.arange(setup.sizes.batch // 2).repeat(2)[: setup.sizes.batch] // IMAGES_EACH
    maps, pids = unit_maps(labels, shape, 1), torch.from_numpy(labels)
    expected = _gradients(name, plain_head(trained_head(shape).train()).double(), maps.double(), pids)
    for precision, (loss_limit, maps_limit, weights_limit) in LOSS_LIMITS.items():
        ours = trained_head(shape).train().to(setup.device)
        half = precision == "fp16"
        with float32_products():
            measured = _gradients(name, ours, maps.to(setup.device), pids.to(setup.device), half=half)
        yield at_most(f"loss, {precision}", difference(measured["loss"], expected["loss"]), loss_limit)
        yield at_most(f"gradient of maps, {precision}", difference(measured["maps"], expected["maps"]), maps_limit)
        weights = [part for part in expected if part not in ("loss", "maps")]
        joined = (
            torch.cat([gradients[part].flatten().double().cpu() for part in weights])
            for gradients in (measured, expected)
        )
        yield at_most(f"gradient of {len(weights)} weights, {precision}", difference(*joined), weights_limit)


def _gradients(
    name: str, head: QAConv | PlainHead, maps: Tensor, pids: Tensor, *, half: bool = False
) -> dict[str, Tensor]:
    """Return the loss, and the gradients of the maps and of the loss's weights, by name."""
    people = int(pids.max()) + 1
    module: Any = find("loss", name)().build(head, people).to(maps.device, maps.dtype).train()
    if name == "identity":
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            module.classifier.weight.copy_(torch.randn(module.classifier.weight.shape, generator=generator))
    if name == "class_memory":
        module.memory.copy_(unit_maps(np.arange(people), _shape(head), 7).to(module.memory))
        module.seen.fill_(True)
    maps = maps.clone().requires_grad_()
    with torch.autocast(maps.device.type, torch.float16, enabled=half):
        outcome = module(maps.flatten(1)[:, None].expand(-1, 2, -1) if name == "identity" else maps, pids)
    outcome.loss.backward()
    assert maps.grad is not None
    weights = {part: value.grad for part, value in module.named_parameters() if value.grad is not None}
    return {"loss": outcome.loss.detach(), "maps": maps.grad, **weights}


def _shape(head: QAConv) -> Shape:
    return Shape(head.height, head.width, head.channels)


def difference(measured: Tensor, expected: Tensor) -> float:
    """Return |measured - expected| / |expected| of the whole tensors, in float64."""
    measured, expected = measured.detach().double().cpu(), expected.detach().double().cpu()
    return float((measured - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny))


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """Multiply float32 in full precision or in TF32, independently of the current settings."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
