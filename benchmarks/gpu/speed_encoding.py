"""Time encoding in eager PyTorch, in half precision, with channels last, compiled, and in ONNX Runtime."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.parity_network import float32_products
from benchmarks.gpu.record import Figure
from benchmarks.gpu.settings import Setup
from benchmarks.gpu.simulated import images, settled_network
from benchmarks.gpu.timing import measure
from qaconv.data.loading import Batch, in_torch
from qaconv.release.graphs import encoder_graph

PROVIDER = "CUDAExecutionProvider"


def eager(setup: Setup) -> Iterator[Figure]:
    """Time batches that are on the GPU, then batches that come from the host and return as maps."""
    encoder, batch = settled_network(setup).encoder, images(setup, setup.sizes.encoded)
    half = torch.float16 if setup.device.type == "cuda" else torch.bfloat16
    plain: float | None = None
    for memory, form in (("", torch.contiguous_format), (", channels last", torch.channels_last)):
        encoder.to(memory_format=form)
        pictures = batch.contiguous(memory_format=form)
        for name, context in (
            ("fp32", float32_products()),
            ("TF32", float32_products(tf32=True)),
            ("half precision", torch.autocast(setup.device.type, half)),
        ):
            with context, torch.inference_mode():
                cost = measure(lambda: encoder(pictures), setup.device)  # noqa: B023
            yield _figure(f"{name}{memory}", setup, cost, plain)
            plain = plain or cost.seconds
    call = in_torch(encoder, setup.device).call
    on_host = (batch.cpu() * 255).to(torch.uint8)
    cost = measure(lambda: call(Batch(on_host)), setup.device)
    yield _figure("as qaconv encodes, from the host and back", setup, cost, plain)


def compiled(setup: Setup) -> Iterator[Figure]:
    """Time the encoder compiled by torch.compile, channels last, in half precision. Compiling takes a minute."""
    if setup.rehearsal:
        yield Figure("compiled, half precision, channels last", None, "images/s", note="not run: needs a C++ compiler")
        return
    encoder = settled_network(setup).encoder.to(memory_format=torch.channels_last)
    batch = images(setup, setup.sizes.encoded).contiguous(memory_format=torch.channels_last)
    call: Callable[[Tensor], Tensor] = torch.compile(encoder)
    with torch.inference_mode(), torch.autocast(setup.device.type, torch.float16):
        started = time.perf_counter()
        call(batch)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        cost = measure(lambda: call(batch), setup.device)
    yield _figure("compiled, half precision, channels last", setup, cost, None, f"{seconds:.0f} s to compile")


def onnxruntime(setup: Setup) -> Iterator[Figure]:
    """Time the exported graph on the GPU, from the host and back."""
    import onnxruntime as runtime

    name = "ONNX Runtime on CUDA, fp32, from the host and back"
    if PROVIDER not in runtime.get_available_providers():
        yield Figure(name, None, "images/s", note="not run: no CUDA provider")
        return
    network = settled_network(setup)
    network.encoder.cpu()
    session = runtime.InferenceSession(encoder_graph(network), providers=[PROVIDER])
    if PROVIDER not in session.get_providers():
        yield Figure(name, None, "images/s", note="not run: the CUDA provider cannot be loaded")
        return
    size = setup.sizes.image
    batch = torch.randint(256, (setup.sizes.encoded, size.height, size.width, 3), dtype=torch.uint8).numpy()
    yield _figure(name, setup, measure(lambda: session.run(None, {"images": batch}), setup.device), None)


def _figure(name: str, setup: Setup, cost: Any, plain: float | None, note: str = "") -> Figure:
    rate = setup.sizes.encoded / cost.seconds
    return Figure(name, rate, "images/s", cost.seconds, plain_seconds=plain, peak_bytes=cost.peak_bytes, note=note)
