"""Read and extend a dataset of ingested sightings.

A dataset is a folder of a table, `sightings.csv`, which `data/layouts/table.py` reads, and images that are named by
their content, so that an image that arrives twice is stored once. N rows of the table, n of a batch.
"""

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pandas as pd

from qaconv.data.layouts import table
from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.layouts.table_file import read_text
from qaconv.data.manifest import UNLABELLED
from qaconv.files import replacing_file

TABLE = table.NAME
IMAGES = "images"  # a dataset's sub-folder of images
PARTICULARS = ["pid", "camera", "time_s", "split", table.ORDER, "track"]
COLUMNS = ["image", "pid", "camid", "time_s", "split", table.ORDER, "track", "arrived"]  # of a dataset's table
OPTIONAL = (table.ORDER, "track")  # columns that a table has only where a row has a value


@dataclass(frozen=True)
class Verdict:
    """Result of checking a batch.

    Attributes:
        accepted: rows with the batch's `image`, PARTICULARS, both as `table.Table` has them, and the images' sha256 as
            `digest`.
        known: number of images that the dataset already has with the same particulars, or that the batch repeats.
        refused: `image` and `reason` of each rejected image; all images if the whole batch is rejected.
        time_origin: of the times, as `table.Table` has it.
        fault: why the whole batch is rejected, or "".
    """

    accepted: pd.DataFrame
    known: int
    refused: pd.DataFrame
    time_origin: str = ""
    fault: str = ""


class Dataset:
    """A dataset with what the rows of a batch are compared with, so that a batch takes time that N does not change.

    Accepted batches are kept in memory until `save`, which writes the table once for all of them.

    Args:
        folder: of the dataset, which may not exist yet.

    Attributes:
        folder: of the dataset.
        time_origin: of the times, as `table.Table` has it.
        has_times: whether a row has a time.
        cameras: number of rows of each camera.
        trained: pids of the rows of training.
        tested: pids of the others.

    Raises:
        InputError: its table is invalid.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time_origin, self.has_times = "", False
        self.cameras: Counter[str] = Counter()
        self.trained: set[int] = set()
        self.tested: set[int] = set()
        self._by_digest: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
        self._places: dict[str, tuple[object, ...]] = {}
        self._new: list[pd.DataFrame] = []
        stored = read_stored(folder)
        self._index(stored.rows, stored.time_origin)

    def __len__(self) -> int:
        return self.cameras.total()

    def has(self, digests: "pd.Series[str]") -> "pd.Series[bool]":
        """Return whether there is an image of each digest, [n]."""
        return digests.map(self._by_digest.__contains__).astype(bool)

    def rows_of(self, digests: Iterable[str]) -> pd.DataFrame:
        """Return digest and PARTICULARS of the rows with these digests."""
        rows = [row for digest in set(digests) if digest in self._by_digest for row in self._by_digest[digest]]
        return pd.DataFrame(rows, columns=["digest", *PARTICULARS])

    def places_of(self, tracks: "pd.Series[str]") -> pd.DataFrame:
        """Return pid, camera and split of each track, None where the dataset does not have it, [n]."""
        places = [self._places.get(track, (None, None, None)) for track in tracks]
        return pd.DataFrame(places, tracks.index, ["pid", "camera", "split"], dtype=object)

    def add(self, verdict: Verdict, images: Mapping[str, Path], arrived: str) -> None:
        """Store the accepted images, and keep their rows until `save`. If this fails, the dataset is as before.

        Args:
            verdict: result of checking the batch.
            images: file of each image, by its name in the batch's table.
            arrived: time of arrival in UTC, in ISO 8601. Known images keep their earlier time.
        """
        accepted = verdict.accepted
        names = [
            f"{IMAGES}/{digest}{_suffix(image)}"
            for image, digest in zip(accepted["image"], accepted["digest"], strict=True)
        ]
        try:
            for image, name in zip(accepted["image"], names, strict=True):
                with replacing_file(self.folder / name) as new_file:
                    shutil.copyfile(images[image], new_file)
        except BaseException:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            raise
        self._index(accepted, verdict.time_origin)
        self._new.append(_as_sent(accepted.assign(image=names, arrived=arrived), verdict.time_origin))

    def save(self) -> None:
        """Add the rows of the accepted batches to the table, after their images, so that it never names a missing one.

        The new rows are appended to a copy, which then replaces the table. It is written again only where it lacks a
        column that they need.
        """
        new = [rows for rows in self._new if len(rows)]
        if not new:
            return
        rows = _without_empty(pd.concat(new))
        path = self.folder / TABLE
        columns = _header(path)
        if columns and not set(rows.columns) <= set(columns):
            stored = read_stored(self.folder)
            rows = _without_empty(pd.concat([_as_sent(stored.rows, stored.time_origin), *new]))
            columns = []
        with replacing_file(path) as unfinished:
            if columns:
                shutil.copyfile(path, unfinished)
                rows = rows.reindex(columns=columns)
            text = rows.to_csv(index=False, header=not columns, lineterminator="\n")
            with unfinished.open("a", encoding="utf-8", newline="") as file:
                file.write(text)
        self._new.clear()

    def _index(self, rows: pd.DataFrame, time_origin: str) -> None:
        if rows["time_s"].notna().any():
            self.time_origin, self.has_times = time_origin, True
        self.cameras.update(rows["camera"].tolist())
        people = rows[rows["pid"] >= 0]
        is_trained = people["split"] == "train"
        self.trained.update(people.loc[is_trained, "pid"].tolist())
        self.tested.update(people.loc[~is_trained, "pid"].tolist())
        columns = [rows[name].tolist() for name in ("digest", *PARTICULARS)]
        for row in zip(*columns, strict=True):
            self._by_digest[row[0]].append(row)
        tracked = rows[rows["track"] != ""].drop_duplicates("track")
        for track, *place in tracked[["track", "pid", "camera", "split"]].itertuples(index=False, name=None):
            self._places.setdefault(track, tuple(place))


def read_dataset(dataset: Path) -> table.Table:
    """Read a dataset, with `digest`, each image's sha256, and `arrived`; no rows if it does not exist yet.

    Clocks that were reset are corrected across all batches, by the column `order`.

    Raises:
        InputError: its table is invalid.
    """
    stored = read_stored(dataset)
    rows = stored.rows
    time_s, _ = correct_resets(rows["camera"], rows[table.ORDER], rows["time_s"])
    return replace(stored, rows=rows.assign(time_s=time_s))


def read_stored(dataset: Path) -> table.Table:
    """Read a dataset with the times that the cameras' clocks showed, and `arrived`, "" for rows of no batch."""
    path = dataset / TABLE
    if not path.is_file():
        nothing = {name: pd.Series(dtype=object) for name in ["image", *PARTICULARS, "arrived", "digest"]}
        return table.Table(pd.DataFrame(nothing), {}, "")
    stored = table.read_rows(path)
    arrived = read_text(path, ["image", "arrived"]).get("arrived", "")
    return replace(stored, rows=stored.rows.assign(arrived=arrived, digest=_digests(dataset, stored.rows["image"])))


def _digests(dataset: Path, images: "pd.Series[str]") -> "pd.Series[str]":
    """Return each image's sha256: its name if a batch brought it, else that of the file, "" if there is none."""
    names = images.str.extract(r"(?:^|/)([0-9a-f]{64})(?:\.[^./]*)?$", expand=False)
    digests = [
        name if isinstance(name, str) else sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for name, path in zip(names, (dataset / image for image in images), strict=True)
    ]
    return pd.Series(digests, images.index, dtype=object)


def _header(path: Path) -> list[str]:
    """Return the columns of a table that rows can be appended to; none if it is missing or was written otherwise."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace").rstrip("\n").split(",")
        file.seek(-1, 2)
        is_whole = file.read() == b"\n"
    return header if is_whole and set(header) <= set(COLUMNS) else [""]


def _without_empty(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=[name for name in OPTIONAL if rows[name].isna().all()])


def _as_sent(rows: pd.DataFrame, time_origin: str) -> pd.DataFrame:
    """Return rows with COLUMNS in the form of a table: cameras by name, dates as such, NaN where a value is empty."""
    times: pd.Series = rows["time_s"].astype("float64")
    if time_origin:
        known = times.dropna()
        dates = [datetime.fromtimestamp(seconds, UTC).isoformat() for seconds in known]
        times = pd.Series(dates, known.index, dtype=object).reindex(rows.index)
    pid = rows["pid"].astype("Int64")
    return rows.assign(
        pid=pid.where(pid != UNLABELLED),
        camid=rows["camera"],
        time_s=times,
        split=rows["split"].replace("", None),
        track=rows["track"].replace("", None),
    )[COLUMNS]


def _suffix(image: str) -> str:
    """Return the ending of a name in lower case, "" if it is not a usual one."""
    match = re.search(r"\.[a-z0-9]{1,9}$", image.strip().lower())
    return match[0] if match else ""
