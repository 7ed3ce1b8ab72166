"""Verify that every image of a manifest decodes, and find duplicates."""

import logging
import os
from dataclasses import replace
from hashlib import sha256
from itertools import combinations_with_replacement
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pandas as pd
from rich.console import Console

from qaconv.data.manifest import Manifest
from qaconv.errors import InputError, name_first
from qaconv.progress import track
from qaconv.runtime.decode import DecodeError, decode_image

log = logging.getLogger(__name__)
SHOW_PROGRESS_FROM = 300  # images


def with_images_verified(manifest: Manifest) -> Manifest:
    """Decode every image as training does, and return the manifest with the digest of all files.

    A query may also be in the gallery, as the same person on the same camera: the evaluation protocol drops that pair.
    Any other duplicate is a mislabelled image, or one that is both trained on and tested with.

    Raises:
        InputError: there are no images, or some are missing, cannot be decoded, or are duplicates.
    """
    paths = manifest.paths()
    if not paths:
        raise InputError(f"{manifest.root}: must hold at least one image, got none")
    with ThreadPool(os.cpu_count()) as pool:  # threads suffice: the decoders and hashlib release the interpreter
        results = track(
            pool.imap(digest_and_fault, paths, chunksize=16),
            f"reading {manifest.root}",
            total=len(paths),
            console=Console(stderr=True),
            disable=len(paths) < SHOW_PROGRESS_FROM,
        )
        digests, faults = zip(*results, strict=True)
    unreadable = [
        f"{image}: {fault}" for image, fault in zip(manifest.frame["image"], faults, strict=True) if fault is not None
    ]
    if unreadable:
        raise InputError(f"{manifest.root}: {len(unreadable)} images cannot be read:{name_first(unreadable)}")
    _refuse_duplicates(manifest, digests)
    log.info("%s: all %s images decode", manifest.root, f"{len(paths):,}")
    return replace(manifest, images_digest=sha256("".join(digests).encode()).hexdigest())


def digest_and_fault(path: Path) -> tuple[str, str | None]:
    """Return a file's sha256 and None, or an empty digest and why the file cannot be decoded."""
    try:
        content = path.read_bytes()
        decode_image(content)
    except DecodeError as error:
        return "", str(error)
    except OSError as error:
        return "", error.strerror or str(error)
    return sha256(content).hexdigest(), None


def _refuse_duplicates(manifest: Manifest, digests: tuple[str, ...]) -> None:
    rows = manifest.frame.assign(digest=digests)
    twice = pd.Series(False, index=rows.index)
    for splits in combinations_with_replacement(("train", "query", "gallery"), 2):
        part = rows[rows["split"].isin(splits)]
        if splits == ("query", "gallery"):
            part = part.drop_duplicates(["digest", "pid", "camid"])
        twice[part.index[part.duplicated("digest", keep=False)]] = True
    copies = [" = ".join(images) for _, images in rows[twice].groupby("digest", sort=False)["image"]]
    if copies:
        raise InputError(f"{manifest.root}: {len(copies)} images have duplicates:{name_first(copies)}")
