"""Add a camera's crops to a folder of layout `table`: images/<camera>/ and sightings.csv, whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from qaconv.config.values import Name
from qaconv.errors import InputError
from qaconv.files import locking, replacing_file, write_json
from qaconv.video.settings import CropSettings

TABLE = "sightings.csv"
COLUMNS = ["image", "camid", "time_s", "track"]
FACTS = "crops.json"  # in the camera's folder of images: what they were cut from


@dataclass(frozen=True)
class Source:
    """What a camera's crops were cut from: digests of the files, and all that the choice depends on."""

    video_sha256: str
    tracks_sha256: str
    start: str | None
    frame_rate: float | None
    person_class: int | None
    settings: dict[str, Any]

    @classmethod
    def of(
        cls,
        video: Path,
        tracks: Path,
        start: datetime | None,
        frame_rate: float | None,
        person_class: int | None,
        settings: CropSettings,
    ) -> "Source":
        """Compute the digests of a video or folder of frames, and of its track file."""
        return cls(
            _digest(video),
            _digest(tracks),
            start.isoformat() if start else None,
            frame_rate,
            person_class,
            settings.model_dump(),
        )


class CropsFolder:
    """A folder that cameras are added to, one after another or at the same time.

    A camera's images are renamed into place before its rows are written, so that sightings.csv never lists an image
    that is missing. A process that is killed in between leaves images without rows, which the next one replaces.

    Args:
        folder: the folder, created with the first camera.
        camera: name of the camera that is added.

    Raises:
        InputError: the camera's name is not of letters, digits, _ and -, or the folder holds something else.
    """

    def __init__(self, folder: Path, camera: str) -> None:
        try:
            TypeAdapter(Name).validate_python(camera)
        except ValidationError as error:
            raise InputError(f"camera: {error.errors()[0]['ctx']['error']}, got {camera!r}") from error
        self._folder = folder
        self._camera = camera
        self._images = folder / "images" / camera
        self._read()

    def has(self, source: Source) -> bool:
        """Return whether the folder has the camera's crops from the same source.

        Raises:
            InputError: it has the camera's crops from another source.
        """
        if self._camera not in set(self._read()["camid"]):
            return False
        try:
            earlier = json.loads((self._images / FACTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = {}
        differing = [key for key, value in asdict(source).items() if earlier.get(key, "") != value]
        if differing:
            raise InputError(
                f"{self._folder}: camera {self._camera!r} is there already, cut from another source "
                f"({', '.join(differing)}); choose another name or folder"
            )
        return True

    def count(self) -> tuple[int, int]:
        """Return the number of crops of the camera, and of their tracks."""
        table = self._read()
        rows = table[table["camid"] == self._camera]
        return len(rows), len(set(rows["track"]) - {""})

    @contextmanager
    def filling(self) -> Iterator[Path]:
        """Yield an empty temporary folder for the images, which is deleted unless `commit` moves it."""
        unfinished = self._folder.with_name(f".{self._folder.name}.{self._camera}.{os.getpid()}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def commit(self, images: Path, rows: list[tuple[str, str, str, str]], source: Source) -> None:
        """Move the images into place, then write their rows.

        Raises:
            InputError: another process has added the camera, or the folder's other cameras have dates and this one has
                none, or the reverse.
        """
        write_json(images / FACTS, asdict(source))
        with locking(self._folder.with_name(f".{self._folder.name}.lock")):
            table = self._read()
            if self._camera in set(table["camid"]):
                raise InputError(f"{self._folder}: camera {self._camera!r} was added by another process")
            new = pd.DataFrame(rows, columns=COLUMNS)
            joined = pd.concat([table, new], ignore_index=True)
            dated = joined["time_s"].str.contains("T").groupby(joined["camid"]).first()
            if dated.nunique() > 1:
                names = ", ".join(dated.index[~dated])
                raise InputError(
                    f"{self._folder}: every camera must have times with a date, got none of {names}; set --start"
                )
            if self._images.exists() and not (self._images / FACTS).is_file():
                raise InputError(f"{self._images}: must be absent, or be images that `qaconv crops` wrote")
            self._images.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._images, ignore_errors=True)
            images.rename(self._images)
            with replacing_file(self._folder / TABLE) as unfinished:
                joined.sort_values("image").to_csv(unfinished, index=False, lineterminator="\n")

    def _read(self) -> pd.DataFrame:
        """Return the rows of the cameras that the folder has."""
        path = self._folder / TABLE
        if not path.exists():
            others = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
            if set(others) - {"images"} or (self._folder.exists() and not self._folder.is_dir()):
                raise InputError(f"{self._folder}: must be absent, or a folder that `qaconv crops` wrote, got {others}")
            return pd.DataFrame(columns=COLUMNS, dtype=str)
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as a table: {error}") from error
        if list(table.columns) != COLUMNS:
            raise InputError(
                f"{path}: must have the columns {', '.join(COLUMNS)} that `qaconv crops` writes, got "
                f"{', '.join(table.columns)}; choose another folder"
            )
        return table


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{_digest(file)} {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()
