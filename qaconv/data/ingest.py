"""Check a batch of new sightings, and add the accepted ones to a dataset.

A batch is images and `sightings.csv`, a table that `data/layouts/table.py` reads. A dataset has the same form, but its
images are named by their content, so that an image that arrives twice is stored once.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from qaconv.config.operation import IngestConfig
from qaconv.data.ingest_names import leads_out
from qaconv.data.layouts import table
from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.layouts.images import ImageFile, inspect_image
from qaconv.data.layouts.table_file import read_text
from qaconv.data.manifest import UNLABELLED, Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_file
from qaconv.times import UNIX_EPOCH

TABLE = table.NAME
IMAGES = "images"  # a dataset's sub-folder of images
PARTICULARS = ["pid", "camera", "time_s", "split", table.ORDER, "track"]
COLUMNS = ["image", "pid", "camid", "time_s", "split", table.ORDER, "track", "arrived"]  # of a dataset's table


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


def check_batch(batch: Path, images: Mapping[str, Path], dataset: Path, rules: IngestConfig) -> Verdict:
    """Check every image of a batch and its row in the table. Nothing is written.

    Args:
        batch: the batch's table.
        images: file of each image, by its name in the table.
        dataset: the dataset's folder, which may not exist yet.
        rules: largest change of a camera's share of the images.
    """
    try:
        sent = table.read_rows(batch)
        split = table.split_unlabelled(sent.rows)
        checked = Manifest(sent.rows.assign(domain=dataset.name, split=split), batch.parent).frame
    except InputError as error:
        return _refuse_all(list(images), str(error))
    rows = checked[["image"]].merge(sent.rows, on="image")
    stored = _read_stored(dataset)
    existing = stored.rows
    if fault := _find_mixed_times(sent, stored):
        return _refuse_all(rows["image"].tolist(), f"{batch}: {fault}")
    files = [_inspect(images, image) for image in rows["image"]]
    faults = pd.Series([file.fault for file in files], rows.index, dtype=object)  # None if the image decodes
    rows = rows.assign(digest=[file.sha256 for file in files], reason=faults)
    for find in (_find_contradictions, _find_people_in_train_and_test, _find_divided_tracks):
        rows["reason"] = rows["reason"].fillna(find(rows, existing))
    sound = rows[rows["reason"].isna()]
    new = sound[~sound["digest"].isin(existing["digest"])].drop_duplicates("digest")
    if fault := _find_unusual_cameras(new, existing, rules):
        return _refuse_all(rows["image"].tolist(), fault)
    refused = rows.loc[rows["reason"].notna(), ["image", "reason"]]
    return Verdict(new[["image", *PARTICULARS, "digest"]], len(sound) - len(new), refused, sent.time_origin)


def read_dataset(dataset: Path) -> table.Table:
    """Read a dataset, with `digest`, each image's sha256, and `arrived`; no rows if it does not exist yet.

    Clocks that were reset are corrected across all batches, by the column `order`.

    Raises:
        InputError: its table is invalid.
    """
    stored = _read_stored(dataset)
    rows = stored.rows
    time_s, _ = correct_resets(rows["camera"], rows[table.ORDER], rows["time_s"])
    return replace(stored, rows=rows.assign(time_s=time_s))


def _read_stored(dataset: Path) -> table.Table:
    """Read a dataset with the times that the cameras' clocks showed, and `arrived`, "" for rows of no batch."""
    path = dataset / TABLE
    if not path.is_file():
        nothing = {name: pd.Series(dtype=object) for name in ["image", *PARTICULARS, "arrived", "digest"]}
        return table.Table(pd.DataFrame(nothing), {}, "")
    stored = table.read_rows(path)
    arrived = read_text(path, ["image", "arrived"]).get("arrived", "")
    digest = stored.rows["image"].str.extract(r"([^/]*?)(?:\.[^./]*)?$", expand=False)
    return replace(stored, rows=stored.rows.assign(arrived=arrived, digest=digest))


def join(verdict: Verdict, images: Mapping[str, Path], dataset: Path, arrived: str) -> None:
    """Add the accepted images to the dataset.

    The table is written last, so that it never names a missing image. If this fails, the dataset is as before.

    Args:
        verdict: result of checking the batch.
        images: file of each image, by its name in the batch's table.
        dataset: the dataset's folder, which is created if necessary.
        arrived: time of arrival in UTC, in ISO 8601. Known images keep their earlier time.
    """
    names = [
        f"{IMAGES}/{digest}{_suffix(image)}"
        for image, digest in zip(verdict.accepted["image"], verdict.accepted["digest"], strict=True)
    ]
    stored = _read_stored(dataset)
    new = verdict.accepted.assign(image=names, arrived=arrived)
    parts = [(stored.rows, stored.time_origin), (new, verdict.time_origin)]
    rows = pd.concat([_as_sent(part, origin) for part, origin in parts if len(part)])
    rows = rows.drop(columns=[name for name in (table.ORDER, "track") if rows[name].isna().all()])
    try:
        for image, name in zip(verdict.accepted["image"], names, strict=True):
            with replacing_file(dataset / name) as new_file:
                shutil.copyfile(images[image], new_file)
        with replacing_file(dataset / TABLE) as new_file:
            rows.sort_values("image").to_csv(new_file, index=False, lineterminator="\n")
    except BaseException:
        for name in names:
            (dataset / name).unlink(missing_ok=True)
        raise


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


def _inspect(images: Mapping[str, Path], image: str) -> ImageFile:
    if image in images:
        return inspect_image(images[image])
    return ImageFile("", fault="leads out of the batch" if leads_out(image) else "is not in the batch")


def _suffix(image: str) -> str:
    """Return the ending of a name in lower case, "" if it is not a usual one."""
    match = re.search(r"\.[a-z0-9]{1,9}$", image.strip().lower())
    return match[0] if match else ""


def _refuse_all(images: list[str], fault: str) -> Verdict:
    nothing = pd.DataFrame(columns=["image", *PARTICULARS, "digest"])
    return Verdict(nothing, 0, pd.DataFrame({"image": images, "reason": "the batch is refused"}), fault=fault)


def _find_mixed_times(sent: table.Table, stored: table.Table) -> str:
    """Say which kind of time a batch must have, if it has another than the dataset; "" if it may be added."""
    have_times = sent.rows["time_s"].notna().any() and stored.rows["time_s"].notna().any()
    if not have_times or sent.time_origin == stored.time_origin:
        return ""
    kinds = {"": "seconds on the cameras' clocks", UNIX_EPOCH: "dates or Unix milliseconds"}
    return f"times must be {kinds[stored.time_origin]} as in the dataset, got {kinds[sent.time_origin]}"


def _find_contradictions(rows: pd.DataFrame, existing: pd.DataFrame) -> "pd.Series[str]":
    """Return a reason for each row whose image has other particulars in another row of the batch or the dataset."""
    columns = ["digest", *PARTICULARS]
    by_image = pd.concat([existing[columns], rows.loc[rows["digest"] != "", columns]]).groupby("digest")
    exact = [name for name in PARTICULARS if name != table.ORDER]
    differs = by_image[exact].nunique(dropna=False).gt(1).any(axis=1) | by_image[table.ORDER].nunique().gt(1)
    contradicts = rows["digest"].isin(differs[differs].index)
    reason = "the same image is there with another person, camera, time, split, order or track"
    return pd.Series(reason, rows.index).where(contradicts)


def _find_people_in_train_and_test(rows: pd.DataFrame, existing: pd.DataFrame) -> "pd.Series[str]":
    """Return a reason for each row that puts a person of the dataset's training into its test, or the reverse."""
    people = existing[existing["pid"] >= 0]
    trained = set(people.loc[people["split"] == "train", "pid"])
    tested = set(people.loc[people["split"] != "train", "pid"])
    wrong = rows["pid"].isin(tested).where(rows["split"] == "train", rows["pid"].isin(trained))
    return pd.Series("the person is in the dataset, on the other side of training and test", rows.index).where(wrong)


def _find_divided_tracks(rows: pd.DataFrame, existing: pd.DataFrame) -> "pd.Series[str]":
    """Return a reason for each row whose track is in the dataset with another person, camera or split."""
    place = ["pid", "camera", "split"]
    tracks = existing.loc[existing["track"] != "", ["track", *place]].drop_duplicates("track").set_index("track")
    is_known = rows["track"].isin(tracks.index)
    stored_place = tracks.reindex(rows["track"]).set_axis(rows.index)
    differs = is_known & (rows[place] != stored_place).any(axis=1)
    reason = "its track is in the dataset with another person, camera or split"
    return pd.Series(reason, rows.index).where(differs)


def _find_unusual_cameras(new: pd.DataFrame, existing: pd.DataFrame, rules: IngestConfig) -> str:
    """Name the cameras whose share of the images has changed too much: off, turned, or with another number."""
    if min(len(new), len(existing)) < rules.share_from:
        return ""
    now, before = (part["camera"].value_counts(normalize=True) for part in (new, existing))
    changes = now.sub(before, fill_value=0)
    unusual = changes[changes.abs() > rules.max_share_change].sort_index()
    shares = [
        f"camera {camid} has {now.get(camid, 0):.0%}, {before.get(camid, 0):.0%} before" for camid in unusual.index
    ]
    return f"{', '.join(shares)}; a change of at most {rules.max_share_change:.0%} is allowed" if shares else ""
