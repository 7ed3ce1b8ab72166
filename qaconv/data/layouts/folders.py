"""Read your own labelled images: a folder for each person. There are no times; cameras are in names, or unknown."""

import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from qaconv.data.layouts.names import LEFT_BY_FILE_MANAGERS
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError, name_first
from qaconv.runtime.limits import LARGEST_CAMID

# As in c1s1_000451.jpg, cam2_7.png, 0001_c3.jpg and cam04/7.png.
CAMERA = r"(?:^|[/_.-])c(?:am|amera)?[_-]?(\d{1,4})(?=[s/_.-])"


def read(root: Path, domain: str, *, seed: int = 0, train_share: float = 0.5, camera: str = CAMERA) -> Manifest:
    """Read the folders, and draw who is in training and which images are queries.

    A person is in training or in query and gallery, never in both. Of the others, one image of each camera is a query
    if another image, of another camera where the names have cameras, is in the gallery. A person's place is drawn from
    seed and folder name alone, so that a new person changes nobody else's.

    Args:
        root: the folder of the people's folders, which hold images and may have further folders in them.
        domain: name for the camera network.
        seed: of the draw. Default: 0.
        train_share: share of the people in training, in [0, 1]. Default: 0.5.
        camera: regular expression with one group, searched in the path below the person's folder; the group is the
            camera. Default: a number after c, cam or camera, such as c3 in 000451_c3.jpg. Without such names all
            images are of one camera.
    """
    if not 0 <= train_share <= 1:
        raise InputError(f"layout folders: option train_share must be in [0, 1], got {train_share}")
    images = _list_images(root)
    images["camid"], camera_names, cameras_note = _read_cameras(root, images, camera)
    people = sorted(images["person"].unique())
    draw = {person: _draw(seed, person) for person in people}
    in_training = sorted(people, key=lambda person: draw[person])[: round(train_share * len(people))]
    images["pid"] = 1 + images["person"].map({person: number for number, person in enumerate(people)})
    images["split"] = np.where(images["person"].isin(in_training), "train", "gallery")
    images.loc[_choose_queries(images, seed), "split"] = "query"
    notes = {
        "split": f"drawn with seed {seed}: {len(in_training)} of {len(people)} people in train, the others in test",
        "cameras": cameras_note,
    }
    return Manifest(images.assign(time_s=float("nan"), domain=domain), root, notes=notes, cameras=camera_names)


def _list_images(root: Path) -> pd.DataFrame:
    """Return image (path below root), person (name of the folder) and rest (path below that folder) of each file."""
    if not root.is_dir():
        raise InputError(f"{root}: must be an existing folder")
    entries = [entry for entry in sorted(root.iterdir()) if not _is_ignored(entry)]
    if files := [entry.name for entry in entries if not entry.is_dir()]:
        raise InputError(f"{root}: must hold a folder for each person and nothing else, got files:{name_first(files)}")
    rows = [
        (path.relative_to(root).as_posix(), entry.name, path.relative_to(entry).as_posix())
        for entry in entries
        for path in sorted(entry.rglob("*"))
        if path.is_file() and not _is_ignored(path)
    ]
    images = pd.DataFrame(rows, columns=["image", "person", "rest"])
    if empty := sorted({entry.name for entry in entries} - set(images["person"])):
        raise InputError(f"{root}: {len(empty)} people have no images:{name_first(empty)}")
    if len(entries) < 2:
        raise InputError(f"{root}: must hold a folder for each of at least two people, got {len(entries)}")
    return images


def _is_ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name in LEFT_BY_FILE_MANAGERS


def _read_cameras(root: Path, images: pd.DataFrame, pattern: str) -> tuple["pd.Series[int]", dict[int, str], str]:
    """Return camid of each image, the names of cameras that are not numbers, and how they were found."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"layout folders: option camera must be a regular expression: {error}, got {pattern!r}"
        ) from error
    if compiled.groups != 1:
        raise InputError(f"layout folders: option camera must have one group, got {compiled.groups} in {pattern!r}")
    in_names = images["rest"].map(lambda rest: match[1] if (match := compiled.search(rest)) else None)
    if in_names.isna().all():
        if pattern != CAMERA:
            raise InputError(f"{root}: no image has a camera by the option camera {pattern!r}")
        return pd.Series(0, images.index), {}, "none in the names: all images count as of one camera"
    if in_names.isna().any():
        without = images["image"][in_names.isna()]
        raise InputError(
            f"{root}: {len(without)} images have no camera in their names, others do:{name_first(without)}"
        )
    names = sorted(set(in_names))
    note = f"{len(names)} by the pattern {pattern}"
    if all(name.isdecimal() and int(name) <= LARGEST_CAMID for name in names):
        return in_names.astype(int), {}, note
    return in_names.map({name: camid for camid, name in enumerate(names)}), dict(enumerate(names)), note


def _choose_queries(images: pd.DataFrame, seed: int) -> "pd.Index[int]":
    """Choose one image of each person and camera outside training, if the gallery then has what it must find.

    Of a person with a single image on each camera one image is chosen.
    """
    tested = images[images["split"] != "train"]
    by_draw = tested.loc[tested["image"].map(lambda image: _draw(seed, image)).sort_values().index]
    on_camera = by_draw.groupby(["person", "camid"])["image"].transform("size")
    on_others = by_draw.groupby("person")["image"].transform("size") - on_camera
    has_match = (on_others > 0) | (images["camid"].nunique() == 1)
    chosen = by_draw[has_match & (on_camera > 1)].drop_duplicates(["person", "camid"])
    single = by_draw[has_match & (on_others > 0) & ~by_draw["person"].isin(chosen["person"])].drop_duplicates("person")
    return chosen.index.union(single.index)


def _draw(seed: int, name: str) -> str:
    return sha256(f"{seed}/{name}".encode()).hexdigest()
