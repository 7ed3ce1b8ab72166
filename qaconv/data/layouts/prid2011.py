"""Read PRID2011's single shots: two cameras, one image of each person on each (Hirzer et al., SCIA 2011). No times."""

from pathlib import Path

from qaconv.data.layouts.names import note_splits, read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"query": "single_shot/cam_a", "gallery": "single_shot/cam_b"}
NAME = r"person_(?P<pid>\d+)\.png"
EXAMPLE = "person_0001.png (pid)"
LAST_PID_ON_BOTH = 200  # above it, the same number on the two cameras means two people


def read(root: Path, domain: str, *, splits: int = 0) -> Manifest:
    """Read the names, for direct transfer: nothing is trained here.

    The 200 people that both cameras saw are the queries, from cam_a; all 749 of cam_b are the gallery. The common
    protocol tests random halves of 100 against 649: `splits` of them are measured, too.

    Args:
        root: the folder of `single_shot`.
        domain: name for the camera network.
        splits: number of random halves. Default: 0, none.

    Raises:
        InputError: the folder has another structure, or the number is negative.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    rows = rows[(rows["split"] == "gallery") | (rows["pid"] <= LAST_PID_ON_BOTH)]
    camid = (rows["split"] == "gallery").astype("int64")
    return Manifest(rows.assign(camid=camid, time_s=float("nan"), domain=domain), root, note_splits(splits))
