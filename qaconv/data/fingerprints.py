"""Fingerprint images by their bytes and by their look, and find copies between what is trained on and what is tested.

The look is a perceptual hash: the signs of an image's 63 lowest frequencies (a discrete cosine transform of its grey
values at 32 x 32). It hardly changes when an image is stored again in another format, quality or size.
"""

import logging
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from qaconv.data.manifest import UNLABELLED, Manifest, is_measured
from qaconv.errors import InputError, name_first
from qaconv.files import replacing_file
from qaconv.paths import FINGERPRINTS, PREPARED

log = logging.getLogger(__name__)

SIDE = 32  # pixels of the reduced image
FREQUENCIES = 8  # of each direction
LEAST_AMPLITUDE = 1e-6  # below it a frequency is rounding, as in an image of one colour
BITS = np.uint64(1) << np.arange(FREQUENCIES**2 - 1, dtype=np.uint64)
# A mirrored image has the opposite sign in every odd frequency along its rows.
MIRROR = BITS[np.arange(1, FREQUENCIES**2) % FREQUENCIES % 2 == 1].sum()
# Bits in which two looks may differ. Of 1,610 crops of the demo's station, stored again as JPEG of quality 40 or in
# half or twice the size, none differs in more than 4; crops of two people differ in 9 and more.
LARGEST_DIFFERENCE = 4
# Bits of two of six bands, for each choice of two.
BANDS = np.array([BITS[np.isin(np.arange(len(BITS)) % 6, pair)].sum() for pair in combinations(range(6), 2)])
PAIRS_AT_ONCE = 1 << 20  # compared
EXAMPLES = 2  # shown of many


def compute_look(pixels: NDArray[np.uint8]) -> int:
    """Compute the perceptual hash of an RGB image [H, W, 3], a number below 2**63."""
    grey = Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    amplitudes = dctn(np.asarray(grey, np.float64), norm="ortho")[:FREQUENCIES, :FREQUENCIES].ravel()[1:]
    return int(BITS[amplitudes > LEAST_AMPLITUDE].sum())


def find_alike(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the pairs of positions in `left` and `right` whose images look the same, mirrored or not, [P, 2] in order.

    Two looks that differ in LARGEST_DIFFERENCE bits are equal in two bands at least. So only pairs that are equal in
    two bands are compared: of different images these are one in 2**21, and the time grows nearly with their number.
    """
    alike = [_alike_in_bands(left, right, mirror, number) for mirror in (False, True) for number in range(len(BANDS))]
    rows, columns = np.concatenate(alike, axis=1)
    return np.stack((rows, columns), axis=1)[np.lexsort((columns, rows))]


def _alike_in_bands(
    left: NDArray[np.uint64], right: NDArray[np.uint64], mirror: bool, number: int
) -> NDArray[np.int64]:
    """Return the alike pairs [2, n] that are equal in the bands of BANDS[number], and in none before."""
    keys = (left ^ MIRROR if mirror else left) & BANDS[number]
    order = np.argsort(right & BANDS[number])
    ordered = (right & BANDS[number])[order]
    starts = np.searchsorted(ordered, keys, side="left")
    counts = np.searchsorted(ordered, keys, side="right") - starts
    ends = np.cumsum(counts)
    alike = [np.zeros((2, 0), np.int64)]
    for block in range(0, int(counts.sum()), PAIRS_AT_ONCE):
        candidates = np.arange(block, min(block + PAIRS_AT_ONCE, int(ends[-1])))
        rows = np.searchsorted(ends, candidates, side="right")
        columns = order[starts[rows] + candidates - (ends[rows] - counts[rows])]
        difference = left[rows] ^ right[columns]
        is_new = np.bitwise_count(difference ^ MIRROR if mirror else difference) <= LARGEST_DIFFERENCE
        if mirror:
            is_new &= np.bitwise_count(difference) > LARGEST_DIFFERENCE
            difference ^= MIRROR
        is_new &= ((difference[:, None] & BANDS[:number]) != 0).all(axis=1)
        alike.append(np.stack((rows, columns))[:, is_new])
    return np.concatenate(alike, axis=1)


def save_fingerprints(fingerprints: pd.DataFrame, dataset: str) -> None:
    """Write image, sha256 and look of a dataset's images to data/fingerprints/<dataset>.parquet."""
    with replacing_file(FINGERPRINTS / f"{dataset}.parquet") as path:
        fingerprints.to_parquet(path, index=False)


def load_fingerprinted(dataset: str) -> pd.DataFrame:
    """Load the rows of a prepared dataset's manifest, with the columns path, sha256 and look.

    Raises:
        InputError: the dataset is not prepared, or its manifest and fingerprints are of different images.
    """
    manifest = Manifest.load(PREPARED / dataset)
    frame = manifest.frame
    path = FINGERPRINTS / f"{dataset}.parquet"
    if not path.is_file():
        raise InputError(f"{path}: file not found; `dvc repro prepare@{dataset}` writes it")
    try:
        fingerprints = pd.read_parquet(path, columns=["image", "sha256", "look"])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; `dvc repro -f prepare@{dataset}` writes it") from error
    if fingerprints["image"].tolist() != frame["image"].tolist():
        raise InputError(f"{path}: holds other images than {PREPARED / dataset}; run `dvc repro prepare@{dataset}`")
    paths = manifest.root.as_posix() + "/" + frame["image"]
    return frame.assign(path=paths, sha256=fingerprints["sha256"], look=fingerprints["look"])


def refuse_trained_images(trained: pd.DataFrame, target: str) -> None:
    """Check that no query or gallery image of a target is trained on.

    Args:
        trained: path, domain and sha256 of the images that are trained on or held out.
        target: name of a prepared dataset.

    Raises:
        InputError: there are such images.
    """
    shared = trained.merge(_tested(target), on="sha256")
    if len(shared):
        datasets = ", ".join(sorted(shared["domain"].unique()))
        count = shared["tested"].nunique()
        raise InputError(
            f"params.yaml: target {target!r} must share no image with sources.datasets, got {count} query and gallery "
            f"images that are also trained on in {datasets}:"
            f"{name_first(_pairs(shared['path'], shared['tested']), EXAMPLES)}"
        )


def warn_of_trained_looks(trained: pd.DataFrame, target: str) -> None:
    """Log how many images of a target look the same as one that is trained on, with examples.

    Args:
        trained: path and look of the images that are trained on or held out.
        target: name of a prepared dataset.
    """
    tested = _tested(target)
    left, right = find_alike(trained["look"].to_numpy(), tested["look"].to_numpy()).T
    pairs = pd.DataFrame({"path": trained["path"].to_numpy()[left], "tested": tested["tested"].to_numpy()[right]})
    if len(pairs):
        log.warning(
            "%s: %s query and gallery images look the same as one that is trained on:%s",
            target,
            f"{pairs['tested'].nunique():,}",
            name_first(_pairs(pairs["path"], pairs["tested"]), EXAMPLES),
        )


def warn_of_copies(frame: pd.DataFrame, dataset: str) -> None:
    """Log pairs of a dataset's images that look the same and should not, with examples.

    Args:
        frame: rows of its manifest, with the column look.
        dataset: its name.
    """
    left, right = find_alike(frame["look"].to_numpy(), frame["look"].to_numpy()).T
    first, second = frame.iloc[left[left < right]], frame.iloc[right[left < right]]
    person, other = first["pid"].to_numpy(), second["pid"].to_numpy()
    split, other_split = first["split"].to_numpy(), second["split"].to_numpy()
    in_both = (split == "train") & (other_split != "train")
    findings = {
        "of train look the same as one of query or gallery": in_both,
        "look the same as one of another person": ~in_both & (person != other) & (person >= 0) & (other >= 0),
    }
    if has_one_camera(frame):
        findings["of the gallery look the same as a query, on the only camera"] = (
            (split == "query") & (other_split == "gallery") & (person == other) & (person != UNLABELLED)
        )
    for fault, chosen in findings.items():
        if chosen.any():
            pairs = _pairs(first["image"][chosen], second["image"][chosen])
            log.warning("%s: %d images %s:%s", dataset, chosen.sum(), fault, name_first(pairs, EXAMPLES))


def has_one_camera(frame: pd.DataFrame) -> bool:
    """Return whether the measured sightings are of one camera, so that pairs on one camera are measured."""
    sightings = frame[frame["split"] != "train"]
    return sightings.loc[is_measured(sightings), "camid"].nunique() == 1


def _tested(target: str) -> pd.DataFrame:
    """Return path, sha256 and look of a target's queries and gallery; the path is named `tested`."""
    rows = load_fingerprinted(target).rename(columns={"path": "tested"})
    return rows.loc[rows["split"] != "train", ["tested", "sha256", "look"]]


def _pairs(left: pd.Series, right: pd.Series) -> Iterator[str]:
    return (f"{one} = {other}" for one, other in zip(left, right, strict=True))
