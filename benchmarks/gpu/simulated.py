"""Make feature maps, heads, networks and image files that behave like trained and real ones."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpu.plain import plain_logits
from benchmarks.gpu.settings import Setup, Shape
from qaconv.config import AugmentConfig, ImageConfig
from qaconv.data.loading import Crops
from qaconv.data.training_reader import TrainingCrops
from qaconv.data.transforms import build_augmentation
from qaconv.models import QAConv
from qaconv.models.checkpoint import Architecture, Network, build_network

LOGIT_STD = 5.0  # standard deviation of a trained network's logits among strangers
DIRECTIONS = 8  # in which people differ
PATCHES = (4, 2)  # of a person, whose colours are drawn
CROP = (128, 64)  # height and width of Market-1501's images


def unit_maps(
    labels: NDArray[np.int64], shape: Shape, seed: int, *, noise: float = 0.5, device: torch.device | None = None
) -> Tensor:
    """Make maps [N, C, H, W] of unit length over C. Maps of one label are alike for every seed.

    People differ in a few directions, and neighbouring locations are alike, as in a trained network's maps. So their
    cosines spread, and many locations agree on a score.

    Args:
        labels: person of each map, [N], numbered from 0.
        shape: shape of a map.
        seed: seed of the differences between images of a person.
        noise: size of these differences, relative to what a person's maps have in common.
        device: device to make them on. Default: the CPU.
    """
    generator = torch.Generator(device or "cpu").manual_seed(0)
    basis = torch.randn(shape.channels, DIRECTIONS + 1, generator=generator, device=device)
    people = torch.randn(int(labels.max()) + 1, DIRECTIONS, *PATCHES, generator=generator, device=device)
    smooth = F.interpolate(people, (shape.height, shape.width), mode="bilinear")
    everyone = torch.ones_like(smooth[:, :1])
    common = torch.einsum("cd,pdhw->pchw", basis, torch.cat([smooth, everyone], dim=1))
    maps = common[torch.from_numpy(labels).to(common.device)]
    generator.manual_seed(seed + 1)
    maps += noise * DIRECTIONS**0.5 * torch.randn(maps.shape, generator=generator, device=device)
    return F.normalize(maps, dim=1)


def trained_head(shape: Shape, seed: int = 0) -> QAConv:
    """Make a head in eval mode whose statistics fit `unit_maps` of strangers, with logits of LOGIT_STD."""
    head = QAConv(shape.channels, shape.height, shape.width).eval()
    generator = torch.Generator().manual_seed(seed)
    maps = unit_maps(np.arange(24), shape, seed)
    with torch.no_grad():
        head.weight.weight.mul_(1 + 0.5 * torch.randn(shape.locations, generator=generator))
        best = head.cosines(maps, maps).amax(dim=3)  # [Q, S, G]
        strangers = ~torch.eye(len(maps), dtype=torch.bool)
        _settle_norm(head.local_norm, best.transpose(1, 2)[strangers], weight=1.1, bias=0.2)
        logits = plain_logits(head.folded(), maps, maps)[strangers]
        _settle_norm(head.logit_norm, logits, weight=LOGIT_STD, bias=-2 * LOGIT_STD)
    return head


def _settle_norm(norm: nn.BatchNorm1d, values: Tensor, *, weight: float, bias: float) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.fill_(values.mean())
    norm.running_var.fill_(values.var())
    norm.weight.fill_(weight)
    norm.bias.fill_(bias)


def settled_network(setup: Setup) -> Network:
    """Make a network with random weights and with statistics that fit its own activations."""
    architecture = Architecture(backbone=setup.sizes.backbone, image=setup.sizes.image, pooled=False)
    network = build_network(architecture, seed=0)
    encoder = network.encoder.to(setup.device)
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.copy_(0.7 + 0.6 * torch.rand(norm.weight.shape, generator=generator))
            norm.bias.copy_(0.2 * torch.randn(norm.bias.shape, generator=generator))
            norm.momentum = 1.0
        encoder.train()(images(setup, 8 if setup.rehearsal else 16))
        for norm in norms:
            norm.momentum = 0.1
    encoder.eval()
    return network


def images(setup: Setup, count: int) -> Tensor:
    """Make float images [count, 3, H, W] in [0, 1] on the device, smooth with some noise."""
    size, generator = setup.sizes.image, torch.Generator().manual_seed(count)
    coarse = torch.rand(count, 3, 8, 4, generator=generator)
    smooth = F.interpolate(coarse, (size.height, size.width), mode="bilinear")
    return (0.9 * smooth + 0.1 * torch.rand(smooth.shape, generator=generator)).to(setup.device)


def drawn_crops(setup: Setup, people: int, each: int, size: ImageConfig, augment: AugmentConfig) -> TrainingCrops:
    """Return training images of people who differ in colours, drawn as JPEG files at the first call."""
    folder = setup.folder / f"people-{people}x{each}"
    names = [(label, folder / f"{label:04d}_{image}.jpg") for label in range(people) for image in range(each)]
    if not folder.exists():
        folder.mkdir(parents=True)
        for label, path in names:
            draw_person(label, path)
    labels, paths = [label for label, _ in names], [path for _, path in names]
    return TrainingCrops(Crops(paths, size), labels, build_augmentation(augment, size))


def draw_person(person: int, path: Path) -> None:
    """Write a JPEG with a person's colours and new noise, of about the size of Market-1501's files."""
    colours = np.random.default_rng(person).integers(30, 226, (4, 2, 3))
    rng = np.random.default_rng([person, *path.name.encode()])
    pixels = np.kron(colours, np.ones((CROP[0] // 4, CROP[1] // 2, 1)))
    pixels += np.kron(rng.normal(0, 25, (16, 8, 3)), np.ones((8, 8, 1))) + rng.normal(0, 6, pixels.shape)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=75)
