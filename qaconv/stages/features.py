"""Trained networks and a target's images go in; every sighting's feature map comes out, on disk."""

import logging
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from qaconv.config import METHODS, Params
from qaconv.data.loading import encode_batches
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.matching import MapStore
from qaconv.models.checkpoint import load_network, weights_digest
from qaconv.paths import FEATURES, MODELS, PREPARED
from qaconv.release.encoding import fastest
from qaconv.training.device import find_device, out_of_memory_names

log = logging.getLogger(__name__)

SHARD_IMAGES = 2048


def features(params: Params, target: str) -> None:
    """Writes artifacts/features/<target>/<method>: query, then gallery with its junk, in the manifest's order.

    Raises:
        InputError: the target has no query or no gallery, or the device is not there.
    """
    manifest = Manifest.load(PREPARED / target)
    sightings = manifest.sightings()
    queries = int((sightings["split"] == "query").sum())
    if not 0 < queries < len(sightings):
        raise InputError(
            f"params.yaml: targets names {target!r}, which has {queries} query images and "
            f"{len(sightings) - queries} in its gallery; legal is at least one of each"
        )
    device = find_device(params.machine.device)
    remedy = "lower evaluate.batch_size"
    with out_of_memory_names(remedy), replacing_folder(FEATURES / target) as beside:
        for method in METHODS:
            network, _ = load_network(MODELS / method)
            shape = (network.head.channels, network.head.height, network.head.width)
            # Not float16: re-ranking asks who is among the nearest, and jumps where rounding swaps two of them.
            store = MapStore.create(beside / method, shape, dtype="float32", model=weights_digest(MODELS / method))
            batches = encode_batches(
                fastest(network, device),
                [manifest.root / image for image in sightings["image"]],
                network.architecture.image,
                batch_size=params.evaluate.batch_size,
                workers=params.machine.workers,
            )
            for maps in _shards(batches, params.evaluate.batch_size):
                of = sightings.iloc[len(store) : len(store) + len(maps)]
                store.append(maps, of["image"].tolist(), of["camid"], of["time_s"])
            log.info("%s, %s: %d maps of %s", target, method, len(store), " x ".join(map(str, shape)))


def _shards(batches: Iterator[Tensor], batch_size: int) -> Iterator[Tensor]:
    """About SHARD_IMAGES maps at a time."""
    while part := list(islice(batches, max(1, SHARD_IMAGES // batch_size))):
        yield torch.cat(part)
