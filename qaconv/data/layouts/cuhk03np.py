"""Read CUHK03 in the new protocol, detected or labelled (Zhong et al., CVPR 2017). It has no times."""

from pathlib import Path

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = r"(?P<pid>-1|\d+)_c(?P<camera>[1-9]\d*)_\d+\.(png|jpg)"
EXAMPLE = "0003_c1_21.png (pid, camera from 1, number)"


def read(root: Path, domain: str) -> Manifest:
    """Read the names.

    Args:
        root: `detected` or `labeled`: the folder of `bounding_box_train`, `query` and `bounding_box_test`.
        domain: name for the camera network.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    return Manifest(rows.assign(camid=rows["camera"] - 1, time_s=float("nan"), domain=domain), root)
