"""Read CUHK-SYSU's cropped people, for training only (Xiao et al., CVPR 2017). It has no times and no cameras."""

from pathlib import Path

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"train": "cropped_images"}
NAME = r"p(?P<pid>\d+)_s(?P<scene>\d+)_(?P<number>\d+)\.(jpg|png)"
EXAMPLE = "p11422_s16929_1.jpg (pid, scene, number)"


def read(root: Path, domain: str) -> Manifest:
    """Read the names.

    A person is photographed in several scenes, each from a place of its own. So a person's n-th image has camid n - 1:
    then all pairs of a person's images count as pairs of two cameras.

    Args:
        root: the folder of `cropped_images`.
        domain: name for the camera network.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    camid = rows.groupby("pid").cumcount()
    notes = {"cameras": "none in the dataset; a person's n-th image has camid n - 1"}
    return Manifest(rows.assign(camid=camid, time_s=float("nan"), domain=domain), root, notes=notes)
