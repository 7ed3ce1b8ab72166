"""Define the sizes of a run on a GPU and of its rehearsal on the CPU, and the argument of every part."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from qaconv.config import BackboneConfig, ImageConfig


class Shape(NamedTuple):
    """Height, width and channels of feature maps."""

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.channels}"

    @property
    def locations(self) -> int:
        return self.height * self.width

    @property
    def pair_flop(self) -> int:
        """Count the floating-point operations of the cosines of one pair of images."""
        return 2 * self.locations**2 * self.channels


@dataclass(frozen=True)
class Sizes:
    """The amounts of work of the parts."""

    backbone: BackboneConfig  # of parity and speed
    image: ImageConfig
    paper: Shape  # of its maps
    demo: Shape
    shapes: tuple[Shape, ...]  # of parity in matching
    pairs: tuple[int, int]  # queries and gallery images of parity in matching
    ranked: tuple[int, int]  # of parity in ranking and re-ranking
    people: int  # of the graph sampler, and classes of class memory
    many_people: int  # of a large training set's graph
    batch: int  # images of a training step
    timed_pairs: tuple[int, int]  # queries and gallery images of speed in matching
    encoded: int  # images at a time in encoding
    trained: tuple[int, int]  # people of parity in training, and images of each
    trained_image: ImageConfig
    amp_epochs: int
    workers: tuple[int, ...]
    loader_batches: int  # for each number of workers
    matrix: int  # side of the product whose rate is measured
    copied: int  # bytes


@dataclass(frozen=True)
class Setup:
    """The argument of every part."""

    device: torch.device
    sizes: Sizes
    folder: Path  # scratch
    images: Path | None  # of Market-1501
    weights: Path | None  # of MobileNetV2
    training_seconds: float

    @property
    def rehearsal(self) -> bool:
        return self.device.type == "cpu"

    @property
    def readers(self) -> int:
        """Return the number of reading workers for parts that use a single number."""
        return 0 if self.rehearsal else min(16, os.cpu_count() or 1)


FULL = Sizes(
    backbone=BackboneConfig(name="resnet50_ibn_b", last_layer="layer3", neck_channels=128, weights="none"),
    image=ImageConfig(height=384, width=128),
    paper=Shape(24, 8, 128),
    demo=Shape(12, 6, 64),
    shapes=(Shape(24, 8, 128), Shape(12, 6, 64), Shape(1, 1, 128), Shape(7, 5, 40), Shape(16, 8, 256)),
    pairs=(48, 300),
    ranked=(64, 2000),
    people=751,
    many_people=10_000,
    batch=64,
    timed_pairs=(512, 8192),
    encoded=256,
    trained=(12, 6),
    trained_image=ImageConfig(height=64, width=32),
    amp_epochs=8,
    workers=(4, 8, 16),
    loader_batches=40,
    matrix=8192,
    copied=2 << 30,
)
TINY = Sizes(
    backbone=BackboneConfig(name="resnet18_ibn_b", last_layer="layer2", neck_channels=16, weights="none"),
    image=ImageConfig(height=32, width=16),
    paper=Shape(4, 2, 16),
    demo=Shape(3, 2, 16),
    shapes=(Shape(5, 3, 24), Shape(1, 1, 8)),
    pairs=(2, 3),
    ranked=(12, 40),
    people=8,
    many_people=12,
    batch=8,
    timed_pairs=(2, 2),
    encoded=4,
    trained=(4, 4),
    trained_image=ImageConfig(height=32, width=16),
    amp_epochs=1,
    workers=(0,),
    loader_batches=2,
    matrix=128,
    copied=1 << 20,
)
