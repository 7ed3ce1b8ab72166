"""Read VIPeR: two cameras, one image of each person on each (Gray and Tao, ECCV 2008). It has no times."""

from pathlib import Path

from qaconv.data.layouts.names import note_splits, read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"query": "cam_a", "gallery": "cam_b"}
NAME = r"(?P<pid>\d+)_\d+\.(bmp|png|jpg)"
EXAMPLE = "001_45.bmp (pid, angle)"


def read(root: Path, domain: str, *, splits: int = 0) -> Manifest:
    """Read the names, for direct transfer: nothing is trained here.

    All 632 people are tested, cam_a against cam_b. The common protocol tests random halves of 316: `splits` of them are
    measured, too.

    Args:
        root: the folder of `cam_a` and `cam_b`.
        domain: name for the camera network.
        splits: number of random halves. Default: 0, none.

    Raises:
        InputError: the folder has another structure, or the number is negative.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    camid = (rows["split"] == "gallery").astype("int64")
    return Manifest(rows.assign(camid=camid, time_s=float("nan"), domain=domain), root, note_splits(splits))
