"""Time the steps from JPEG files to feature maps, each alone and all together."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.machine import sgemm_rate
from benchmarks.table import Bound, Row, compare
from qaconv.config import BackboneConfig, ImageConfig, SiteConfig, load_params
from qaconv.data.loading import Batch, Crops, Encode, encode_batches, in_torch
from qaconv.models.camera_norms import estimate_norms
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.models.encoder import Encoder
from qaconv.release.encoding import fastest
from qaconv.release.graphs import encoder_graph
from qaconv.runtime.decode import decode_image
from qaconv.runtime.resize import resize
from qaconv.synthetic.render import render_site

SITE = SiteConfig(seed=1, cameras=4, people=24)
IMAGES = 384
BATCH = load_params().evaluate.batch_size  # crops encoded at a time
SMALL, LARGE = ImageConfig(height=96, width=48), ImageConfig(height=384, width=128)  # the demo's; the papers'
MIDDLE = ImageConfig(height=192, width=64)
CAMERAS = 6  # with batch norms of their own
CPU = torch.device("cpu")


def rows() -> Iterator[Row]:
    """Unpack, resize and encode simulated crops."""
    with TemporaryDirectory() as folder:
        render_site(SITE, Path(folder) / "site", processes=1)
        paths = sorted(Path(folder).rglob("*.jpg"))[:IMAGES]
        count = len(paths)
        files = [path.read_bytes() for path in paths]
        yield compare(
            "unpack 128 x 64 JPEG, one thread; Pillow as plain",
            partial(_each, _unpack_by_pillow, files),
            partial(_each, decode_image, files),
            items=count,
        )
        pictures = [decode_image(file) for file in files]
        for size in (SMALL, LARGE):
            yield compare(
                f"resize to {size.height} x {size.width}, one thread; Pillow as plain",
                partial(_each, partial(_resize_by_pillow, size), [Image.fromarray(pixels) for pixels in pictures]),
                partial(_each, partial(resize, height=size.height, width=size.width), pictures),
                items=count,
            )
        network = _network("resnet18", "layer2", 64, SMALL)
        images = _crops(paths, SMALL)
        yield from _encoding("encode 96 x 48, ResNet-18 to layer2", network, images)
        yield compare(
            "files to maps 96 x 48, ResNet-18 to layer2",
            partial(_read_then_encode, deepcopy(network), paths),
            partial(_files_to_maps, fastest(network, encoder_graph(network), CPU), paths),
            items=count,
            bound=_encoder_bound(network, count),
            note="plain reads a batch of 256 with Pillow, then encodes it",
        )
        network = _network("resnet50", "layer3", 128, LARGE)
        yield from _encoding("encode 384 x 128, ResNet-50 to layer3", network, _crops(paths[:32], LARGE))
        for backbone, last_layer, size in (("resnet18", "layer2", SMALL), ("mobilenet_v2", "layer3", MIDDLE)):
            images = _crops(paths[:128], size)
            name = f"encode {size.height} x {size.width}, {backbone} to {last_layer}: batch norms of each camera"
            yield _by_camera(name, _network(backbone, last_layer, 64, size), images)


def _encoding(name: str, network: Network, images: Tensor) -> Iterator[Row]:
    """Compare eager PyTorch on all images at once with PyTorch and ONNX Runtime as the project calls them."""
    bound = _encoder_bound(network, len(images))
    plain = partial(_encode, deepcopy(network), images, len(images))  # as _encode changes the memory format
    by_graph = fastest(network, encoder_graph(network), CPU)
    for runtime, ours in (("PyTorch", in_torch(network.encoder, CPU)), ("ONNX Runtime", by_graph)):
        call = partial(_encode_each, ours, images.split(BATCH))
        yield compare(f"{name}: eager PyTorch, {runtime}", plain, call, items=len(images), bound=bound)


def _by_camera(name: str, network: Network, images: Tensor) -> Row:
    """Compare a network whose cameras have batch norms of their own with itself before."""
    camids = torch.arange(len(images)) % CAMERAS
    plain = partial(_encode_each, fastest(network, encoder_graph(network), CPU), images.split(BATCH))
    assert isinstance(network.encoder, Encoder) and isinstance(network.architecture, Architecture)
    by_camera = {camid: [images[camids == camid] / 255] for camid in range(CAMERAS)}
    network.encoder.normalise_cameras(estimate_norms(network.encoder.eval(), by_camera))
    known = network.architecture.model_copy(update={"cameras": CAMERAS})
    network = Network(network.encoder, network.head, known)
    batches = list(map(Batch, images.split(BATCH), camids.split(BATCH)))
    encode = fastest(network, encoder_graph(network), CPU)
    return compare(name, plain, lambda: list(encode.each(batches)), items=len(images))


def _encoder_bound(network: Network, count: int) -> Bound:
    """Return the time of all convolutions' multiplications and additions at the rate of a matrix product."""
    operations = [0]

    def add(module: torch.nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, torch.nn.Conv2d):
            taps = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            operations[0] += 2 * taps * output.numel()

    hooks = [module.register_forward_hook(add) for module in network.encoder.modules()]
    image = network.architecture.image
    _encode(network, torch.zeros(1, 3, image.height, image.width, dtype=torch.uint8), 1)
    for hook in hooks:
        hook.remove()
    return Bound(f"sgemm at {sgemm_rate() / 1e9:.0f} GFLOP/s", count * operations[0] / sgemm_rate())


@torch.inference_mode()
def _encode(network: Network, images: Tensor, batch_size: int) -> list[Tensor]:
    encoder = network.encoder.eval().to(memory_format=torch.contiguous_format)
    return [encoder(part.float() / 255) for part in images.split(batch_size)]


def _encode_each(encode: Encode, batches: list[Tensor]) -> list[Tensor]:
    return list(encode.each(map(Batch, batches)))


def _files_to_maps(encode: Encode, paths: list[Path]) -> list[Tensor]:
    return list(encode_batches(encode, paths, SMALL, batch_size=BATCH, progress=False))


def _read_then_encode(network: Network, paths: list[Path]) -> list[Tensor]:
    maps = []
    for start in range(0, len(paths), 256):
        batch = [_read_by_pillow(path) for path in paths[start : start + 256]]
        maps += _encode(network, torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).contiguous(), 256)
    return maps


def _read_by_pillow(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return _resize_by_pillow(SMALL, picture.convert("RGB"))


def _crops(paths: list[Path], size: ImageConfig) -> Tensor:
    return Crops(paths, size).batch(range(len(paths))).contiguous()


def _unpack_by_pillow(file: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))


def _resize_by_pillow(size: ImageConfig, picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((size.width, size.height), Image.Resampling.BICUBIC))


def _each(call: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        call(item)


def _network(name: str, last_layer: str, channels: int, image: ImageConfig) -> Network:
    backbone = BackboneConfig.model_validate(
        {"name": name, "last_layer": last_layer, "neck_channels": channels, "weights": "none"}
    )
    return build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=0)
