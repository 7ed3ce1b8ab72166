"""Read RandPerson's subset: rendered people, for training only (Wang et al., ACM MM 2020)."""

from pathlib import Path

import numpy as np

from qaconv.data.layouts.names import read_names
from qaconv.data.manifest import Manifest

FOLDERS = {"train": "randperson_subset"}
NAME = r"(?P<pid>\d+)_s(?P<scene>0\d|10)_c(?P<camera>\d+)_f(?P<frame>\d+)\.(jpg|png)"
EXAMPLE = "000000_s00_c01_f001632.jpg (pid, scene 00 to 10, camera from 00, frame)"
FRAMES_PER_SECOND = 24
# Of scenes 0 to 10, as QAConv's authors give them: the first camera, and the frame at which the scene begins.
FIRST_CAMIDS = np.array([0, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15])
START_FRAMES = np.array(
    [0, 160_000, 340_000, 490_000, 640_000, 1_070_000, 1_330_000, 1_590_000, 1_890_000, 3_190_000, 3_490_000]
)


def read(root: Path, domain: str) -> Manifest:
    """Read the names.

    Args:
        root: the folder of `randperson_subset`.
        domain: name for the camera network.
    """
    rows = read_names(root, FOLDERS, NAME, EXAMPLE)
    camid = FIRST_CAMIDS[rows["scene"]] + rows["camera"]
    time_s = (START_FRAMES[rows["scene"]] + rows["frame"]) / FRAMES_PER_SECOND
    return Manifest(rows.assign(camid=camid, time_s=time_s, domain=domain), root)
