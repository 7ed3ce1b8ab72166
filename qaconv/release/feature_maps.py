"""Encode the sightings of a manifest into a store of feature maps."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from qaconv.data.loading import encode_batches
from qaconv.data.manifest import Manifest
from qaconv.matching import MapStore
from qaconv.models.checkpoint import load_network
from qaconv.models.description import ENCODER_GRAPH, weights_digest
from qaconv.release.encoding import fastest

SHARD_IMAGES = 2048  # about as many maps are written at a time


def encode_sightings(
    network: Path,
    manifest: Manifest,
    folder: Path,
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> MapStore:
    """Encode queries and gallery, junk included, in the manifest's order.

    Args:
        network: folder of a network that was saved with its encoder's graph.
        manifest: images of a target.
        folder: path of the new store.
        device: device to encode on.
        batch_size: images that are encoded at a time.
        workers: threads that read images.

    Raises:
        InputError: the folder holds no such network, or an image cannot be read.
    """
    loaded, _ = load_network(network)
    sightings = manifest.sightings()
    shape = (loaded.head.channels, loaded.head.height, loaded.head.width)
    # Not float16: re-ranking asks who is among the nearest, and jumps where rounding swaps two of them.
    store = MapStore.create(folder, shape, dtype="float32", model=weights_digest(network))
    batches = encode_batches(
        fastest(loaded, network / ENCODER_GRAPH, device),
        [manifest.root / image for image in sightings["image"]],
        loaded.architecture.image,
        batch_size=batch_size,
        workers=workers,
        camids=sightings["camid"] if loaded.knows_cameras else None,
    )
    for maps in _shards(batches, batch_size):
        rows = sightings.iloc[len(store) : len(store) + len(maps)]
        store.append(maps, rows["image"].tolist(), rows["camid"], rows["time_s"])
    return store


def _shards(batches: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Join batches into shards of about SHARD_IMAGES maps."""
    while part := list(islice(batches, max(1, SHARD_IMAGES // batch_size))):
        yield torch.cat(part)
