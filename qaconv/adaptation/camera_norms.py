"""Estimate a network's batch norms on each camera of a target.

N sightings.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.data.loading import Crops, as_input
from qaconv.data.manifest import Manifest
from qaconv.models.camera_norms import estimate_norms, list_norms
from qaconv.models.checkpoint import Architecture, Network
from qaconv.models.encoder import Encoder

FEWEST, MOST = 32, 1024  # crops of a camera that its statistics are estimated on
BATCH = 64  # about as many crops are encoded at a time

Ints = NDArray[np.int64]


def has_norms(network: Network) -> bool:
    """Whether a network has batch norms, whose statistics can be estimated."""
    return bool(list_norms(network.encoder))


def norm_cameras(network: Network, manifest: Manifest, *, seed: int, device: torch.device) -> Network:
    """Give each camera of a target batch norms of its own, with the statistics of its crops.

    A camera with fewer than FEWEST crops keeps those of the network; of more than MOST some are drawn.

    Args:
        network: its encoder is changed, and moved to the device.
        manifest: of the target; no pid is read.
        seed: of the draw, and of the order of crops.
        device: where to encode.

    Returns:
        The network, described as one that knows cameras; as it was, if all have too few crops.
    """
    encoder, architecture = network.encoder, network.architecture
    assert isinstance(encoder, Encoder) and isinstance(architecture, Architecture)
    sightings = manifest.sightings()
    crops = Crops([manifest.root / image for image in sightings["image"]], architecture.image)
    rows = draw_rows(sightings["camid"].to_numpy(), seed)
    if not rows:
        return network
    encoder.eval().to(device)
    batches = {camid: _read(crops, of_camera, device) for camid, of_camera in rows.items()}
    encoder.normalise_cameras(estimate_norms(encoder, batches).to(device))
    return Network(encoder, network.head, architecture.model_copy(update={"cameras": len(rows)}))


def draw_rows(camid: Ints, seed: int) -> dict[int, Ints]:
    """Return rows of sightings in random order, at most MOST, for each camera with at least FEWEST of them.

    Args:
        camid: of each sighting, [N].
        seed: of the order.
    """
    drawn = {}
    for camera in np.unique(camid).tolist():
        rows = np.flatnonzero(camid == camera)
        if len(rows) >= FEWEST:
            drawn[camera] = np.random.default_rng([seed, camera]).permutation(rows)[:MOST]
    return drawn


def _read(crops: Crops, rows: Ints, device: torch.device) -> Iterator[Tensor]:
    """Yield images [B, 3, H, W] in batches of nearly equal size, as each counts as much."""
    for part in np.array_split(rows, -(-len(rows) // BATCH)):
        yield as_input(crops.batch(part.tolist()), device)
