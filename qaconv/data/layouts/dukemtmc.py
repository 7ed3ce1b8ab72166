"""Read DukeMTMC-reID, all cameras on one clock (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017)."""

from pathlib import Path

import numpy as np

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAME = r"(?P<pid>-1|\d+)_c(?P<camera>[1-8])_f(?P<frame>\d+)\.jpg"
EXAMPLE = "0005_c2_f0046985.jpg (pid, camera 1 to 8, frame)"
FRAMES_PER_SECOND = 59.94
START_FRAMES = np.array([5542, 3606, 27243, 31181, 0, 22401, 18967, 46765])  # of cameras 1 to 8, on camera 5's clock


def read(root: Path, domain: str) -> Manifest:
    """Read the names.

    Args:
        root: the folder of `bounding_box_train`, `query` and `bounding_box_test`.
        domain: name for the camera network.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    camid = rows["camera"] - 1
    time_s = (rows["frame"] + START_FRAMES[camid]) / FRAMES_PER_SECOND
    return Manifest(rows.assign(camid=camid, time_s=time_s, domain=domain), root)
