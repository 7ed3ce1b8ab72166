"""Read MSMT17, version 1 or 2, by the four lists of its splits (Wei et al., CVPR 2018)."""

import re
from pathlib import Path

import pandas as pd

from qaconv.data.layouts.names import refuse_names, require, whole_numbers
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError

# Version 2 is version 1 with faces blurred; figures on the two are not quite the same.
FOLDERS = {"1": ("train", "test"), "2": ("mask_train_v2", "mask_test_v2")}
LISTS = {"list_train.txt": "train", "list_val.txt": "train", "list_query.txt": "query", "list_gallery.txt": "gallery"}
LINE = r"(?P<image>[^ ]*?\d+_\d+_(?P<camera>0*[1-9]\d*)_[^ /]+) (?P<pid>\d+)"
EXAMPLE = "0000/0000_000_01_0303morning_0008_0.jpg 0 (..._camera from 01_...jpg, then the pid)"


def read(root: Path, domain: str, *, combine_all: bool = False) -> Manifest:
    """Read the lists. There are no times, as the times of day in the names are too coarse.

    Train and test both number their people from 0 and share none, so the test's pids begin after the last of train
    (1041 in the full dataset).

    Args:
        root: the folder of the lists and of `train` and `test` (version 1) or `mask_train_v2` and `mask_test_v2` (2).
        domain: name for the camera network.
        combine_all: whether to train on all images, test included, as in the papers' "MSMT17 (all)". Default: False.
    """
    require(root, LISTS)
    version = _version(root)
    rows = pd.concat([_read_list(root, name, split) for name, split in LISTS.items()], ignore_index=True)
    is_test = rows["split"] != "train"
    train_folder, test_folder = FOLDERS[version]
    rows["image"] = is_test.map({False: train_folder, True: test_folder}) + "/" + rows["image"]
    rows.loc[is_test, "pid"] += rows.loc[~is_test, "pid"].max() + 1
    if combine_all:
        rows["split"] = "train"
    rows = rows.assign(camid=rows["camera"] - 1, time_s=float("nan"), domain=domain)
    return Manifest(rows, root, notes={"version": f"MSMT17_V{version}"})


def _version(root: Path) -> str:
    versions = [version for version, folders in FOLDERS.items() if all((root / folder).is_dir() for folder in folders)]
    if len(versions) != 1:
        raise InputError(
            f"{root}: must hold either train and test (version 1) or mask_train_v2 and mask_test_v2 (version 2), "
            f"got {'both' if versions else 'neither'}"
        )
    return versions[0]


def _read_list(root: Path, name: str, split: str) -> pd.DataFrame:
    try:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{root / name}: cannot be read as text in UTF-8: {error}") from error
    matches = [re.fullmatch(LINE, line.rstrip()) for line in lines]
    numbered = enumerate(zip(lines, matches, strict=True), start=1)
    refuse_names(root / name, [f"line {number}: {line!r}" for number, (line, match) in numbered if not match], EXAMPLE)
    rows = pd.DataFrame([match.groupdict() for match in matches if match], columns=["image", "camera", "pid"])
    numbers = whole_numbers(root / name, rows[["camera", "pid"]], rows["image"])
    return rows.assign(**numbers, split=split)
