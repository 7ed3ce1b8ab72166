"""From JPEG files to feature maps: what each step can do alone, and all of them together."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.machine import sgemm_rate
from benchmarks.table import Bound, Row, compare
from qaconv.camnet.render import render_site
from qaconv.config import BackboneConfig, ImageConfig, SiteConfig, load_params
from qaconv.encoding import fastest
from qaconv.loading import Crops, Encode, encode_batches, in_torch
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.transforms import resize

SITE = SiteConfig(seed=1, cameras=4, people=24)
IMAGES = 384
BATCH = load_params().evaluate.batch_size  # crops encoded at a time
SMALL, LARGE = ImageConfig(height=96, width=48), ImageConfig(height=384, width=128)  # the demo's; the papers'
CPU = torch.device("cpu")


def rows() -> Iterator[Row]:
    with TemporaryDirectory() as folder:
        render_site(SITE, Path(folder) / "site", processes=1)
        paths = sorted(Path(folder).rglob("*.jpg"))[:IMAGES]
        count = len(paths)
        yield compare(
            "decode 128 x 64 JPEG, one thread; torchvision as plain",
            partial(_each, _decode_by_torchvision, paths),
            partial(_each, _decode, paths),
            items=count,
        )
        pictures = [_decode(path) for path in paths]
        for size in (SMALL, LARGE):
            yield compare(
                f"resize to {size.height} x {size.width}, one thread",
                None,
                partial(_each, partial(resize, size=size), pictures),
                items=count,
            )
        network = _network("resnet18", "layer2", 64, SMALL)
        images = torch.stack([resize(picture, SMALL) for picture in pictures])
        yield from _encoding("encode 96 x 48, ResNet-18 to layer2", network, images)
        yield compare(
            "files to maps 96 x 48, ResNet-18 to layer2",
            partial(_read_then_encode, network, paths),
            partial(_files_to_maps, fastest(network, CPU), paths),
            items=count,
            bound=_encoder_bound(network, count),
            note="plain reads a batch of 256, then encodes it",
        )
        large = torch.stack([resize(picture, LARGE) for picture in pictures[:32]])
        yield from _encoding("encode 384 x 128, ResNet-50 to layer3", _network("resnet50", "layer3", 128, LARGE), large)


def _encoding(what: str, network: Network, images: Tensor) -> Iterator[Row]:
    """Eager PyTorch as a plain user calls it, against PyTorch and ONNX Runtime as we do."""
    bound = _encoder_bound(network, len(images))
    plain = partial(_encode, network, images, len(images))
    for name, ours in (("PyTorch", in_torch(network.encoder, CPU)), ("ONNX Runtime", fastest(network, CPU))):
        call = partial(_each, ours, images.split(BATCH))
        yield compare(f"{what}: eager PyTorch, {name}", plain, call, items=len(images), bound=bound)


def _encoder_bound(network: Network, count: int) -> Bound:
    """Every convolution's multiplications and additions, at the rate of the matrix product."""
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


def _files_to_maps(encode: Encode, paths: list[Path]) -> list[Tensor]:
    return list(encode_batches(encode, paths, SMALL, batch_size=BATCH, progress=False))


def _read_then_encode(network: Network, paths: list[Path]) -> list[Tensor]:
    crops = Crops(paths, SMALL)
    maps = []
    for start in range(0, len(crops), 256):
        images = torch.stack([crops[row] for row in range(start, min(start + 256, len(crops)))])
        maps += _encode(network, images, 256)
    return maps


def _decode(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _decode_by_torchvision(path: Path) -> Tensor:
    return decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB)


def _each(call: Callable[[Any], object], items: Iterable[Any]) -> None:
    for item in items:
        call(item)


def _network(name: str, last_layer: str, channels: int, image: ImageConfig) -> Network:
    backbone = BackboneConfig.model_validate(
        {"name": name, "last_layer": last_layer, "neck_channels": channels, "weights": "none"}
    )
    return build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=0)
