"""A version whose two cameras have batch norms of their own, and drawn people as its cameras see them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.models.camera_norms import estimate_norms
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.models.encoder import Encoder
from qaconv.release.export import export_network
from tests.tracked_projects import write_profile

HEIGHT, WIDTH = 32, 16
TARGET = "mall"
CLEAR, DARK, RED = 0, 1, 2  # cameras of the target; the first has the batch norms of all
CASTS = {CLEAR: [1.0, 1.0, 1.0], DARK: [0.4, 0.4, 0.4], RED: [1.0, 0.6, 0.5]}  # share of red, green and blue
PEOPLE = 24  # more than are encoded at a time


def write_camera_version(folder: Path) -> None:
    """Export such a version, with a profile of TARGET; it takes some seconds."""
    torch.manual_seed(0)
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, neck="batchnorm", weights="none")
    architecture = Architecture(
        backbone=backbone, image=ImageConfig(height=HEIGHT, width=WIDTH), pooled=False, cameras=2
    )
    network = build_network(architecture.model_copy(update={"cameras": 0}), seed=1)
    assert isinstance(network.encoder, Encoder)
    for seed in range(20):
        network.encoder.train()(_draw(32, seed))
    cameras = {camid: [_draw(64, 100 + camid) * _cast(camid)] for camid in (DARK, RED)}
    network.encoder.normalise_cameras(estimate_norms(network.encoder.eval(), cameras))
    export_network(Network(network.encoder, network.head, architecture), {}, folder, seed=7)
    write_profile(folder / "tlift" / f"{TARGET}.json", TARGET)


def seen_by(camid: int) -> NDArray[np.uint8]:
    """Return a crop of each of the same PEOPLE on one camera, [PEOPLE, HEIGHT, WIDTH, 3]."""
    images = (_draw(PEOPLE, seed=11) * _cast(camid) * 255).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).numpy()


def files_of(camid: int) -> list[bytes]:
    """Return the crops as PNG files."""
    return [_as_png(crop) for crop in seen_by(camid)]


def _as_png(crop: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(crop).save(file, "PNG")
    return file.getvalue()


def _draw(count: int, seed: int) -> Tensor:
    """Draw people in clothes of any colours, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    stripes = torch.rand(count, 3, 4, 1, generator=generator)
    noise = torch.rand(count, 3, HEIGHT, WIDTH, generator=generator)
    return 0.95 * F.interpolate(stripes, (HEIGHT, WIDTH)) + 0.05 * noise


def _cast(camid: int) -> Tensor:
    return torch.tensor(CASTS[camid])[:, None, None]
