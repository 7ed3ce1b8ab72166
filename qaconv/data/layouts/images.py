"""Verify that every image of a manifest decodes, and find duplicates."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import combinations_with_replacement
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from qaconv.data.fingerprints import compute_look, has_one_camera
from qaconv.data.layouts.checked import CheckedImages
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError, name_first
from qaconv.progress import track
from qaconv.runtime.decode import DecodeError, decode_image
from qaconv.runtime.limits import LARGEST_FILE

log = logging.getLogger(__name__)
SHOW_PROGRESS_FROM = 300  # images


class ImageFile(NamedTuple):
    """What reading an image file gave."""

    sha256: str  # of the file, empty if it does not decode
    look: int = 0  # the perceptual hash
    fault: str | None = None  # why it does not decode


def verify_images(manifest: Manifest, checked: CheckedImages | None = None) -> tuple[Manifest, pd.DataFrame]:
    """Decode every image as training does, or those that have not been before.

    A query may also be in the gallery, as the same person on the same camera: the evaluation protocol drops that pair,
    unless there is only one camera. Any other duplicate is a mislabelled image, or one that is both trained on and
    tested with.

    Args:
        manifest: without the digest of all files.
        checked: images of an earlier call, which are replaced by those of this one. Default: every image is decoded.

    Returns:
        The manifest with the digest of all files, and image, sha256 and look of each image, in its order.

    Raises:
        InputError: there are no images, or some are missing, cannot be decoded, or are duplicates.
    """
    paths = manifest.paths()
    if not paths:
        raise InputError(f"{manifest.root}: must hold at least one image, got none")
    files = _inspect_all(manifest, checked)
    is_faulty = files["fault"].notna()
    if checked is not None:
        checked.save(files[~is_faulty])
    unreadable = [f"{image}: {fault}" for image, fault in files.loc[is_faulty, ["image", "fault"]].to_numpy()]
    if unreadable:
        raise InputError(f"{manifest.root}: {len(unreadable)} images cannot be read:{name_first(unreadable)}")
    _refuse_duplicates(manifest, files["sha256"])
    log.info("%s: all %s images decode", manifest.root, f"{len(paths):,}")
    fingerprints = files[["image", "sha256", "look"]].astype({"sha256": str, "look": "uint64"})
    return replace(manifest, images_digest=sha256("".join(files["sha256"]).encode()).hexdigest()), fingerprints


def _inspect_all(manifest: Manifest, checked: CheckedImages | None) -> pd.DataFrame:
    """Return what `ImageFile` holds of each image, and its image, size and mtime_ns, in the manifest's order."""
    paths = manifest.paths()
    stats = [_stat(path) for path in paths]
    files = pd.DataFrame(stats, columns=["size", "mtime_ns"]).assign(image=manifest.frame["image"])
    known = files.assign(sha256=None, look=0) if checked is None else files.join(checked.find(files))
    files = known.assign(look=known["look"].fillna(0).astype("uint64"), fault=None)
    positions = files.index[files["sha256"].isna()]
    looks = {} if checked is None else checked.looks
    with ThreadPool(os.cpu_count()) as pool:  # threads suffice: the decoders and hashlib release the interpreter
        results = track(
            pool.imap(partial(inspect_image, looks=looks), [paths[position] for position in positions], chunksize=16),
            f"reading {manifest.root}",
            total=len(positions),
            console=Console(stderr=True),
            disable=len(positions) < SHOW_PROGRESS_FROM,
        )
        read = pd.DataFrame(results, positions, ImageFile._fields).astype({"look": "uint64"})
    if len(read):
        files.loc[positions, list(ImageFile._fields)] = read
    return files


def _stat(path: Path) -> tuple[int, int]:
    """Return the size and the time of change of a file, -1 if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def inspect_image(path: Path, looks: Mapping[str, int] = MappingProxyType({})) -> ImageFile:
    """Read an image file, and decode it.

    Args:
        path: the file.
        looks: perceptual hash of images that decode, by sha256, which are not decoded again. Default: none.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():  # to read a pipe would wait for ever
            return ImageFile("", fault="is not a file")
        if size > LARGEST_FILE:
            return ImageFile("", fault=f"has {size:,} bytes, must have at most {LARGEST_FILE:,}")
        content = path.read_bytes()
        digest = sha256(content).hexdigest()
        if digest in looks:
            return ImageFile(digest, looks[digest])
        pixels = decode_image(content)
    except DecodeError as error:
        return ImageFile("", fault=str(error))
    except OSError as error:
        return ImageFile("", fault=error.strerror or str(error))
    return ImageFile(digest, compute_look(pixels))


def _refuse_duplicates(manifest: Manifest, digests: pd.Series) -> None:
    rows = manifest.frame.assign(digest=digests)
    one_camera = has_one_camera(manifest.frame)
    twice = pd.Series(False, index=rows.index)
    for splits in combinations_with_replacement(("train", "query", "gallery"), 2):
        part = rows[rows["split"].isin(splits)]
        if splits == ("query", "gallery") and not one_camera:
            part = part.drop_duplicates(["digest", "pid", "camid"])
        twice[part.index[part.duplicated("digest", keep=False)]] = True
    copies = [" = ".join(images) for _, images in rows[twice].groupby("digest", sort=False)["image"]]
    if copies:
        raise InputError(f"{manifest.root}: {len(copies)} images have duplicates:{name_first(copies)}")
