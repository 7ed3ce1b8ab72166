"""The manifest: a table of images with person, camera, time and split, which every later stage reads."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from qaconv.errors import InputError, name_first
from qaconv.files import replacing_folder, write_json

SPLITS = ("train", "query", "gallery")
JUNK = -1  # a crop that shows nobody in particular: it leaves the gallery before anything is measured
SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # path below the manifest's root, with forward slashes
        ("pid", pa.int64()),  # person; -1 is junk; a gallery's 0 is a distractor where no query shows it
        ("camid", pa.int64()),  # camera, from 0
        ("time_s", pa.float64()),  # seconds on that camera's clock; NaN where unknown
        ("split", pa.string()),  # one of SPLITS
        ("domain", pa.string()),  # the camera network
    ]
)


@dataclass(frozen=True)
class Manifest:
    """Images of one or more camera networks.

    Attributes:
        frame: the columns of SCHEMA, sorted by split (train, query, gallery) and image; checked on construction.
        root: the folder that `image` is relative to.
        notes: what the reader found out and a person may want to know, such as a dataset's version.
        images_digest: sha256 over the images' bytes, in the frame's order; empty until the images have been read.
        clocks: what the reader mended in the order of recording: camid, kind, time_s, detail and done of each.

    Raises:
        InputError: a column is missing or has the wrong type, a split is unknown, a camera id is negative, a time is
            infinite, an image is named twice or lies outside the root, or a pid is in both train and test of one
            domain.

    Example:
        >>> from pathlib import Path
        >>> import pandas as pd
        >>> from qaconv import Manifest
        >>> table = {"image": ["b.jpg", "a.jpg"], "pid": [1, 1], "camid": [1, 0], "time_s": [90.0, 0.0]}
        >>> frame = pd.DataFrame({**table, "split": ["gallery", "query"], "domain": "shop"})
        >>> Manifest(frame, Path("shop")).split("query")["image"].tolist()
        ['a.jpg']
    """

    frame: pd.DataFrame
    root: Path
    notes: dict[str, str] = field(default_factory=dict)
    images_digest: str = ""
    clocks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _checked(self.frame, self.root))

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, numbered from 0."""
        return self.frame[self.frame["split"] == name].reset_index(drop=True)

    def sightings(self) -> pd.DataFrame:
        """What is matched with each other, numbered from 0: the queries, then the gallery with its junk."""
        return self.frame[self.frame["split"] != "train"].reset_index(drop=True)

    def paths(self) -> list[Path]:
        """Where each image lies, in the frame's order."""
        return [self.root / image for image in self.frame["image"]]

    @property
    def digest(self) -> str:
        """sha256 over the table and, where they were read, the images' bytes; wherever the root lies."""
        rows = self.frame.to_csv(index=False, lineterminator="\n", float_format="%.6f")
        return sha256((rows + self.images_digest).encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts, cameras, time span and digest, as the summary file holds them."""
        times = self.frame["time_s"].dropna()
        return {
            "root": self.root.as_posix(),
            "digest": self.digest,
            "images_digest": self.images_digest,
            "images": len(self.frame),
            "splits": {
                name: {
                    "images": len(rows),
                    "pids": int(rows.loc[rows["pid"] != JUNK, "pid"].nunique()),
                    "junk": int((rows["pid"] == JUNK).sum()),
                    "cameras": sorted(int(camid) for camid in rows["camid"].unique()),
                }
                for name in SPLITS
                for rows in [self.split(name)]
            },
            "time_span_s": [float(times.min()), float(times.max())] if len(times) else None,
            "images_without_time": int(self.frame["time_s"].isna().sum()),
            "notes": self.notes,
        } | ({"clocks": self.clocks} if self.clocks else {})

    def save(self, folder: Path) -> None:
        """Writes `manifest.parquet` and `summary.json`; the same manifest gives the same bytes."""
        with replacing_folder(folder) as beside:
            table = pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
            pq.write_table(table, beside / "manifest.parquet", compression="zstd")
            write_json(beside / "summary.json", self.summary())

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Reads what `save` wrote.

        Raises:
            InputError: the folder holds no manifest.
        """
        if not (folder / "manifest.parquet").is_file():
            raise InputError(f"{folder}: holds no manifest.parquet; `dvc repro prepare` writes it")
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        frame = pq.read_table(folder / "manifest.parquet").to_pandas()
        return cls(frame, Path(summary["root"]), summary["notes"], summary["images_digest"], summary.get("clocks", []))


def _checked(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    missing = [name for name in SCHEMA.names if name not in frame.columns]
    if missing:
        raise InputError(f"{root}: the manifest's columns {missing} are missing; it has {sorted(frame.columns)}")
    try:
        frame = frame.astype(
            {"image": str, "pid": "int64", "camid": "int64", "time_s": "float64", "split": str, "domain": str}
        )[SCHEMA.names]
    except (TypeError, ValueError) as error:
        raise InputError(f"{root}: a column of the manifest has a value of another type: {error}") from error

    image, time_s = frame["image"], frame["time_s"]
    outside = image.str.startswith("/") | image.str.split("/").map(lambda parts: ".." in parts).astype(bool)
    for refused, fault in (
        (~frame["split"].isin(SPLITS), f"have a split that is none of {', '.join(SPLITS)}"),
        (frame["camid"] < 0, "have no camera id (cameras count from 0)"),
        (frame["pid"] < JUNK, "have a pid below -1 (-1 is junk, people count from 0 or 1)"),
        (np.isinf(time_s), "have an infinite time (leave it empty where it is unknown)"),
        (image.duplicated(), "are named twice"),
        (outside, "are not named by a path below that folder"),
    ):
        if refused.any():
            raise InputError(f"{root}: {refused.sum()} images {fault}:{name_first(image[refused])}")
    _refuse_people_in_train_and_test(frame, root)

    rank = frame["split"].map({name: rank for rank, name in enumerate(SPLITS)})
    return frame.assign(rank=rank).sort_values(["rank", "image"])[SCHEMA.names].reset_index(drop=True)


def _refuse_people_in_train_and_test(frame: pd.DataFrame, root: Path) -> None:
    """Shows an image of each side, as either may be the mistaken one."""
    people = frame[frame["pid"] != JUNK]
    first = people.groupby(["domain", "pid", people["split"] == "train"])["image"].first().unstack()
    both = first.reindex(columns=[True, False]).dropna().reset_index()
    if len(both):
        found = [f"pid {pid}: {train} and {test}" for pid, train, test in both[["pid", True, False]].to_numpy()]
        raise InputError(f"{root}: {len(found)} people are in both train and test:{name_first(found)}")
