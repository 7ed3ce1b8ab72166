"""Prepare a dataset: read its layout, check every image, and save its manifest."""

import logging

from qaconv.config import Params
from qaconv.data import layouts
from qaconv.data.fingerprints import save_fingerprints, warn_of_copies
from qaconv.data.layouts.checked import CheckedImages
from qaconv.paths import CHECKED, PREPARED

log = logging.getLogger(__name__)


def prepare(params: Params, name: str) -> None:
    """Read a dataset in its layout, check every image, and write manifest, summary and fingerprints of the images.

    Images that an earlier call has decoded are not decoded again (`CheckedImages`).
    Images that look the same and should not are reported.

    Raises:
        InputError: params.yaml does not have the dataset, or the dataset has faults. Nothing is written then.
    """
    dataset = params.dataset(name)
    manifest, fingerprints = layouts.read_with_fingerprints(
        dataset.layout,
        dataset.path,
        domain=name,
        checked=CheckedImages(CHECKED / f"{name}.parquet"),
        **dataset.options,
    )
    save_fingerprints(fingerprints, name)
    manifest.save(PREPARED / name)
    for finding in manifest.clocks:
        camera = manifest.cameras.get(finding["camid"], str(finding["camid"]))
        log.info("%s camera %s, %s: %s: %s", name, camera, *(finding[key] for key in ("kind", "detail", "done")))
    for split, counts in manifest.summary()["splits"].items():
        unlabelled = f", and {counts['unlabelled']:,} sightings without labels" if counts["unlabelled"] else ""
        log.info(
            "%s %s: %s images of %s people on %s cameras, and %s junk%s",
            name,
            split,
            f"{counts['images'] - counts['junk'] - counts['unlabelled']:,}",
            f"{counts['pids']:,}",
            len(counts["cameras"]),
            f"{counts['junk']:,}",
            unlabelled,
        )
    warn_of_copies(manifest.frame.assign(look=fingerprints["look"]), name)
