"""Encode the sightings of a manifest into a store of feature maps."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from qaconv.data.loading import encode_batches
from qaconv.data.manifest import Manifest
from qaconv.matching import MapStore
from qaconv.models.checkpoint import Network
from qaconv.release.encoding import fastest

SHARD_IMAGES = 2048  # about as many maps are written at a time


def encode_sightings(
    network: Network,
    manifest: Manifest,
    folder: Path,
    *,
    model: str,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> MapStore:
    """Encode queries and gallery, junk included, in the manifest's order.

    Args:
        network: trained network.
        manifest: images of a target.
        folder: path of the new store.
        model: digest of the network's weights, kept with the maps.
        device: device to encode on.
        batch_size: images that are encoded at a time.
        workers: threads that read images.
    """
    sightings = manifest.sightings()
    shape = (network.head.channels, network.head.height, network.head.width)
    # Not float16: re-ranking asks who is among the nearest, and jumps where rounding swaps two of them.
    store = MapStore.create(folder, shape, dtype="float32", model=model)
    batches = encode_batches(
        fastest(network, device),
        [manifest.root / image for image in sightings["image"]],
        network.architecture.image,
        batch_size=batch_size,
        workers=workers,
    )
    for maps in _shards(batches, batch_size):
        rows = sightings.iloc[len(store) : len(store) + len(maps)]
        store.append(maps, rows["image"].tolist(), rows["camid"], rows["time_s"])
    return store


def _shards(batches: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Join batches into shards of about SHARD_IMAGES maps."""
    while part := list(islice(batches, max(1, SHARD_IMAGES // batch_size))):
        yield torch.cat(part)
