"""Decode every image of a manifest, and add the digest of the images to it."""

import io
import logging
import os
from dataclasses import replace
from hashlib import sha256
from itertools import combinations_with_replacement
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError
from rich.console import Console

from qaconv.data.manifest import Manifest
from qaconv.errors import InputError, name_first
from qaconv.progress import track

log = logging.getLogger(__name__)
SHOW_PROGRESS_FROM = 300  # images


def with_images_verified(manifest: Manifest) -> Manifest:
    """Decode every image, and stop with those that would fail or mislead hours later.

    A query may also be in the gallery, as the same person on the same camera: the evaluation protocol drops that pair.
    Any other image that is there twice is mislabelled, or is in both training and test.

    Raises:
        InputError: there are no images, or some are missing, not images, truncated, or duplicates.
    """
    paths = manifest.paths()
    if not paths:
        raise InputError(f"{manifest.root}: there are no images")
    with ThreadPool(os.cpu_count()) as pool:  # threads are enough: Pillow and hashlib release the interpreter lock
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
    """Compute the sha256 of a file, and say why it cannot be decoded; None if it can."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        return "", "is not an image"
    except Exception as error:  # a broken file makes Pillow's decoders raise whatever they stumble on
        return "", getattr(error, "strerror", None) or str(error)
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
        raise InputError(f"{manifest.root}: {len(copies)} images are there more than once:{name_first(copies)}")
