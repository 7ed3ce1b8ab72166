"""Check, save and load the manifest: images with person, camera, time and split, which all later stages read."""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qaconv.errors import InputError, name_first
from qaconv.files import replacing_folder, write_json
from qaconv.runtime.limits import LARGEST_CAMID, LARGEST_PID
from qaconv.times import SECONDS, not_seconds

SPLITS = ("train", "query", "gallery")
RANDOM_SPLITS = "random_splits"  # note: number of random halves of the people that are also measured
JUNK = -1  # a crop that shows no one person; it is dropped from the gallery before evaluation
UNLABELLED = -2  # a person whose identity nobody has stated
SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # path below the manifest's root, with forward slashes
        ("pid", pa.int64()),  # person; -1 is junk, -2 unlabelled; 0 in a gallery is a distractor if no query has it
        ("camid", pa.int64()),  # camera, from 0
        ("time_s", pa.float64()),  # seconds on that camera's clock; NaN if unknown
        ("split", pa.string()),  # one of SPLITS
        ("domain", pa.string()),  # the camera network
        ("track", pa.string()),  # sightings of one track show one person on one camera; "" if there is none
    ]
)


@dataclass(frozen=True)
class Manifest:
    """Images of one or more camera networks.

    Attributes:
        frame: a row for each image, with the columns of SCHEMA: pid is the person (-1: of no person, -2: unlabelled),
            camid the camera from 0. `track` may be left out. Sorted by split (train, query, gallery) and image; checked
            on construction.
        root: the folder that `image` is relative to.
        notes: facts about the dataset by name, such as its version.
        images_digest: sha256 over the images' bytes, in the frame's order; empty until the images have been read.
        clocks: faults of camera clocks that the layout has corrected: camid, kind, time_s, detail and done of each.
        cameras: name of each camera by camid; empty where cameras have numbers only.
        time_origin: the time at 0 s, UNIX_EPOCH of qaconv/times.py where times were given as dates; empty where each
            camera's clock has its own.

    Raises:
        InputError: a column is missing or has the wrong type, a split is unknown, a camera id or pid is beyond the
            limits of qaconv/runtime/limits.py, a time cannot be seconds, an image appears twice or lies outside the
            root, a pid is in both train and test of one domain, a training image is unlabelled, or a track is on two
            cameras, in two splits or of two people.

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
    cameras: dict[int, str] = field(default_factory=dict)
    time_origin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", _checked(self.frame, self.root))

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split, numbered from 0."""
        return self.frame[self.frame["split"] == name].reset_index(drop=True)

    def sightings(self) -> pd.DataFrame:
        """Return queries, then the gallery with its images of no person, numbered from 0."""
        return self.frame[self.frame["split"] != "train"].reset_index(drop=True)

    @property
    def random_splits(self) -> int:
        """Number of random halves of the people that are also measured; 0: none."""
        return int(self.notes.get(RANDOM_SPLITS, 0))

    @property
    def is_labelled(self) -> bool:
        """Whether rankings can be measured: a query and a gallery image show people whose pids are known."""
        return is_labelled(self.frame)

    def check_target(self, name: str) -> None:
        """Check that a target has something to search for and in; no pid has to be known.

        Raises:
            InputError: there is no query or no gallery image, junk aside.
        """
        queries, gallery = (int((self.split(name)["pid"] != JUNK).sum()) for name in ("query", "gallery"))
        if not (queries and gallery):
            raise InputError(
                f"params.yaml: targets: {name!r} must have query and gallery images, got {queries} and {gallery}"
            )

    def paths(self) -> list[Path]:
        """Return the path of each image, in the frame's order."""
        return [self.root / image for image in self.frame["image"]]

    @property
    def digest(self) -> str:
        """Compute the sha256 of the table and of the images' bytes if they were read. The root does not count."""
        rows = self.frame.to_csv(index=False, lineterminator="\n", float_format="%.6f")
        return sha256((rows + self.images_digest).encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return the counts, cameras, time span and digest that the summary file holds."""
        times = self.frame["time_s"].dropna()
        return {
            "root": self.root.as_posix(),
            "digest": self.digest,
            "images_digest": self.images_digest,
            "images": len(self.frame),
            "splits": {
                name: {
                    "images": len(rows),
                    "pids": int(rows.loc[rows["pid"] >= 0, "pid"].nunique()),
                    "junk": int((rows["pid"] == JUNK).sum()),
                    "unlabelled": int((rows["pid"] == UNLABELLED).sum()),
                    "cameras": sorted(int(camid) for camid in rows["camid"].unique()),
                }
                for name in SPLITS
                for rows in [self.split(name)]
            },
            "time_span_s": [float(times.min()), float(times.max())] if len(times) else None,
            "images_without_time": int(self.frame["time_s"].isna().sum()),
            "notes": self.notes,
            "clocks": self.clocks,
            "cameras": {str(camid): name for camid, name in self.cameras.items()},
            "time_origin": self.time_origin,
        }

    def save(self, folder: Path) -> None:
        """Write `manifest.parquet` and `summary.json`. The same manifest gives the same bytes."""
        with replacing_folder(folder) as new_folder:
            table = pa.Table.from_pandas(self.frame, schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
            pq.write_table(table, new_folder / "manifest.parquet", compression="zstd")
            write_json(new_folder / "summary.json", self.summary())

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """Load a saved manifest.

        Raises:
            InputError: the folder holds no manifest, or a damaged one.
        """
        folder = Path(folder)
        if not (folder / "manifest.parquet").is_file():
            raise InputError(f"{folder}: must hold manifest.parquet, which `dvc repro prepare` writes")
        try:
            summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            frame = pq.read_table(folder / "manifest.parquet").to_pandas()
            cameras = {int(camid): name for camid, name in summary["cameras"].items()}
            root = Path(summary["root"])
            facts = {key: summary[key] for key in ("notes", "images_digest", "clocks", "time_origin")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{folder}: cannot be read as a manifest: {error}; `dvc repro -f prepare` writes it"
            ) from error
        return cls(frame, root, cameras=cameras, **facts)


def is_labelled(frame: pd.DataFrame) -> bool:
    """Return whether a query and a gallery image show people whose pids are known."""
    known = frame.loc[frame["pid"] >= 0, "split"]
    return {"query", "gallery"} <= set(known)


def is_measured(sightings: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which queries and gallery images results are about, [N]: all but the gallery's junk.

    In a labelled target those are left out too whose pids are unknown. All of them stay in the fit of times.
    """
    measured = ((sightings["split"] == "query") | (sightings["pid"] != JUNK)).to_numpy(copy=True)
    if is_labelled(sightings):
        measured &= (sightings["pid"] != UNLABELLED).to_numpy()
    return measured


def _checked(frame: pd.DataFrame, root: Path) -> pd.DataFrame:
    if "track" not in frame.columns:
        frame = frame.assign(track="")
    missing = [name for name in SCHEMA.names if name not in frame.columns]
    if missing:
        raise InputError(f"{root}: columns {missing} are missing in the manifest, got {sorted(frame.columns)}")
    try:
        frame = frame.astype(
            {
                "image": str,
                "pid": "int64",
                "camid": "int64",
                "time_s": "float64",
                "split": str,
                "domain": str,
                "track": str,
            }
        )[SCHEMA.names]
    except (TypeError, ValueError) as error:
        raise InputError(f"{root}: a column of the manifest has a value of the wrong type: {error}") from error

    image = frame["image"]
    outside = image.str.startswith("/") | image.str.contains(r"(?:^|/)\.\.(?:/|$)")
    for refused, fault in (
        (~frame["split"].isin(SPLITS), f"have a split that is none of {', '.join(SPLITS)}"),
        (frame["camid"] < 0, "have no camera id (cameras count from 0)"),
        (frame["pid"] < UNLABELLED, "have a pid below -2 (-2 is unlabelled, -1 is junk, people count from 0 or 1)"),
        ((frame["pid"] == UNLABELLED) & (frame["split"] == "train"), "are for training and have no pid"),
        (frame["camid"] > LARGEST_CAMID, f"have a camera id above {LARGEST_CAMID:,}"),
        (frame["pid"] > LARGEST_PID, f"have a pid above {LARGEST_PID:,}"),
        (not_seconds(frame["time_s"]), f"have a time_s that is neither empty nor {SECONDS}"),
        (image.duplicated(), "appear twice"),
        (outside, "have a path that begins with / or goes up by .. (it must be relative to that folder)"),
    ):
        if refused.any():
            raise InputError(f"{root}: {refused.sum()} images {fault}:{name_first(image[refused])}")
    _refuse_people_in_train_and_test(frame, root)
    _refuse_tracks_in_two_places(frame, root)

    rank = frame["split"].map({name: rank for rank, name in enumerate(SPLITS)})
    ordered: pd.DataFrame = frame.assign(rank=rank).sort_values(["rank", "image"])[SCHEMA.names].reset_index(drop=True)
    return ordered


def _refuse_people_in_train_and_test(frame: pd.DataFrame, root: Path) -> None:
    """Raise an error that names an image of each split, as either may be the wrong one."""
    people = frame[frame["pid"] >= 0]
    first = people.groupby(["domain", "pid", people["split"] == "train"])["image"].first().unstack()
    both = first.reindex(columns=[True, False]).dropna().reset_index()
    if len(both):
        people_in_both = [
            f"pid {pid}: {train} and {test}" for pid, train, test in both[["pid", True, False]].to_numpy()
        ]
        raise InputError(
            f"{root}: {len(people_in_both)} people are in both train and test:{name_first(people_in_both)}"
        )


def _refuse_tracks_in_two_places(frame: pd.DataFrame, root: Path) -> None:
    """Raise an error that names two images of a track that cannot show one person on one camera."""
    tracked = frame[frame["track"] != ""].sort_values("image")
    by_track = tracked.groupby(["domain", "track"])
    for column, fault in (("camid", "are on two cameras"), ("pid", "have two pids"), ("split", "are in two splits")):
        differs = tracked[by_track[column].transform("nunique") > 1].drop_duplicates(["domain", "track", column])
        if len(differs):
            tracks = [
                f"track {rows['track'].iloc[0]}: {rows['image'].iloc[0]} and {rows['image'].iloc[1]}"
                for _, rows in differs.groupby(["domain", "track"])
            ]
            raise InputError(f"{root}: {len(tracks)} tracks {fault}:{name_first(tracks)}")
