"""Read ClonedPerson: rendered people in real people's clothes (Wang et al., CVPR 2022)."""

from pathlib import Path

import numpy as np

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"train": "train", "query": "test/query", "gallery": "test/gallery"}
NAME = r"(?P<pid>-1|\d+)_s(?P<scene>0\d|1[0-2])_c(?P<camera>0[0-3])_f(?P<frame>\d+)\.(jpg|png)"
EXAMPLE = "700000_s02_c00_f023389.jpg (pid, scene 00 to 12, camera 00 to 03, frame)"
FRAMES_PER_SECOND = 24
# Of scenes 0 to 12, from QAConv's authors. Their code then takes every scene for scene 2, which makes four cameras of
# the dataset's 24 and drops true matches with the same-camera pairs; here each camera keeps an id of its own.
FIRST_CAMIDS = np.array([0, 0, 0, 4, 4, 8, 12, 12, 12, 12, 16, 16, 20])


def read(root: Path, domain: str) -> Manifest:
    """Read the names; frames count from the beginning of each scene.

    Args:
        root: the folder of `train`, `test/query` and `test/gallery`.
        domain: name for the camera network.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    camid = FIRST_CAMIDS[rows["scene"]] + rows["camera"]
    return Manifest(rows.assign(camid=camid, time_s=rows["frame"] / FRAMES_PER_SECOND, domain=domain), root)
