"""Encode a target's sightings into feature maps."""

import logging

from qaconv.config import Params
from qaconv.data.manifest import Manifest
from qaconv.files import replacing_folder
from qaconv.paths import FEATURES, MODELS, PREPARED
from qaconv.release.feature_maps import encode_sightings
from qaconv.training.device import find_device, out_of_memory_names

log = logging.getLogger(__name__)


def features(params: Params, target: str) -> None:
    """Write artifacts/features/<target>/<method>: maps of the queries, then of the gallery with its junk.

    Raises:
        InputError: the target has no query or no gallery, or the device is missing.
    """
    manifest = Manifest.load(PREPARED / target)
    manifest.check_target(target)
    device = find_device(params.machine.device)
    with out_of_memory_names("lower evaluate.batch_size"), replacing_folder(FEATURES / target) as folder:
        for method in params.methods:
            store = encode_sightings(
                MODELS / method,
                manifest,
                folder / method,
                device=device,
                batch_size=params.evaluate.batch_size,
                workers=params.machine.workers,
            )
            log.info("%s, %s: %d maps of %s", target, method, len(store), " x ".join(map(str, store.shape[1:])))
