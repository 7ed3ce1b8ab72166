"""Read MARS, tracklets of Market-1501's people, by the lists of its evaluation (Zheng et al., ECCV 2016). No times."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.io import loadmat

from qaconv.data.layouts.names import refuse_names, require
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError

# Of each part: folder of images, names of all images in the order of its tracklets, and the tracklets.
PARTS = {
    "train": ("bbox_train", "info/train_name.txt", "info/tracks_train_info.mat", "track_train_info"),
    "test": ("bbox_test", "info/test_name.txt", "info/tracks_test_info.mat", "track_test_info"),
}
QUERIES = ("info/query_IDX.mat", "query_IDX")
NAME = r"(?P<pid>00-1|\d{4})C(?P<camera>[1-9])T\d{4}F\d+\.jpg"
EXAMPLE = "0001C1T0001F001.jpg (pid, camera from 1, tracklet, frame)"


def read(root: Path, domain: str, *, images_per_track: int = 4) -> Manifest:
    """Read the lists. A tracklet's images have a track, as they show one person on one camera.

    The network compares images and not tracklets, so that figures are not comparable with those of MARS's protocol.

    Args:
        root: the folder of `bbox_train`, `bbox_test` and `info` (of the authors' MARS-evaluation).
        domain: name for the camera network.
        images_per_track: images to read of each tracklet, spread over it evenly; 0 reads all 1.2 million. Default: 4.
    """
    if images_per_track < 0:
        raise InputError(f"layout mars: option images_per_track must be 0 or above, got {images_per_track}")
    require(root, [path for folder, names, tracks, _ in PARTS.values() for path in (folder, names, tracks)])
    require(root, [QUERIES[0]])
    tracklets = {part: _read_tracklets(root, part) for part in PARTS}
    queries = _load(root, *QUERIES).ravel() - 1
    if not np.isin(queries, tracklets["test"].index).all():
        raise InputError(f"{root / QUERIES[0]}: rows must be in 1..{len(tracklets['test'])}, the test tracklets")
    tracklets["train"]["split"] = "train"
    tracklets["test"]["split"] = np.where(tracklets["test"].index.isin(queries), "query", "gallery")
    rows = pd.concat([_list_images(root, part, tracklets[part], images_per_track) for part in PARTS], ignore_index=True)
    notes = {"images_per_track": str(images_per_track or "all")}
    return Manifest(rows.assign(time_s=float("nan"), domain=domain), root, notes=notes)


def _read_tracklets(root: Path, part: str) -> pd.DataFrame:
    """Read first and last image (from 1), pid and camera (from 1) of each tracklet."""
    _, _, path, key = PARTS[part]
    table = _load(root, path, key)
    if table.ndim != 2 or table.shape[1] != 4:
        raise InputError(f"{root / path}: {key} must have 4 columns, got shape {table.shape}")
    return pd.DataFrame(table, columns=["first", "last", "pid", "camera"])


def _load(root: Path, path: str, key: str) -> NDArray[np.int64]:
    try:
        content: dict[str, Any] = loadmat(root / path)
        return np.asarray(content[key]).astype(np.int64)
    except Exception as error:  # the reader raises many kinds for a damaged file
        raise InputError(f"{root / path}: cannot be read as a MATLAB file with {key}: {error}") from error


def _list_images(root: Path, part: str, tracklets: pd.DataFrame, images_per_track: int) -> pd.DataFrame:
    """Return image, pid, camid, split and track of the chosen images of each tracklet."""
    folder, path, table, _ = PARTS[part]
    names = (root / path).read_text(encoding="utf-8").split()
    outside = (tracklets["first"] < 1) | (tracklets["last"] < tracklets["first"]) | (tracklets["last"] > len(names))
    if outside.any():
        raise InputError(f"{root / table}: {outside.sum()} tracklets have images outside 1..{len(names)} of {path}")
    rows = [
        (names[number], pid, camera - 1, split, f"{part}-{row}")
        for row, (first, last, pid, camera, split) in enumerate(tracklets.to_numpy().tolist(), start=1)
        for number in _spread(first - 1, last, images_per_track)
    ]
    images = pd.DataFrame(rows, columns=["name", "pid", "camid", "split", "track"])
    parsed = images["name"].str.extract(f"^{NAME}$")
    refuse_names(root / path, images["name"][parsed["pid"].isna()].tolist(), EXAMPLE)
    other = (parsed["pid"].replace("00-1", "-1").astype(int) != images["pid"]) | (
        parsed["camera"].astype(int) != images["camid"] + 1
    )
    if other.any():
        raise InputError(
            f"{root / table}: {other.sum()} images have another pid or camera in {path}, such as "
            f"{images['name'][other].iloc[0]}"
        )
    return images.assign(image=f"{folder}/" + parsed["pid"] + "/" + images["name"])


def _spread(start: int, end: int, count: int) -> list[int]:
    """Return `count` whole numbers from start to end - 1 at equal steps; all where they are fewer, or count is 0."""
    if count == 0 or end - start <= count:
        return list(range(start, end))
    return [start + (2 * step + 1) * (end - start) // (2 * count) for step in range(count)]
