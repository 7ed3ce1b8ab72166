"""Check a batch of new sightings, and add the accepted ones to a dataset.

A batch is images and `sightings.csv`, a table that `data/layouts/table.py` reads. A dataset has the same form, but its
images are named by their content, so that an image that arrives twice is stored once.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from qaconv.config.operation import IngestConfig
from qaconv.data.ingest_names import leads_out
from qaconv.data.layouts import table
from qaconv.data.layouts.clock_resets import correct_resets
from qaconv.data.layouts.images import ImageFile, inspect_image
from qaconv.data.manifest import JUNK, Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_file

TABLE = "sightings.csv"
IMAGES = "images"  # a dataset's sub-folder of images
PARTICULARS = ["pid", "camid", "time_s", "split", table.ORDER]
COLUMNS = ["image", *PARTICULARS, "arrived"]


@dataclass(frozen=True)
class Verdict:
    """Result of checking a batch.

    Attributes:
        accepted: rows with the batch's `image`, PARTICULARS, and the images' sha256 as `digest`.
        known: number of images that the dataset already has with the same particulars, or that the batch repeats.
        refused: `image` and `reason` of each rejected image; all images if the whole batch is rejected.
        fault: why the whole batch is rejected, or "".
    """

    accepted: pd.DataFrame
    known: int
    refused: pd.DataFrame
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
        raw = table.read_rows(batch)
        checked = Manifest(raw.assign(domain=dataset.name), batch.parent).frame
    except InputError as error:
        return _refuse_all(list(images), str(error))
    rows = checked.merge(raw[["image", table.ORDER]], on="image")
    existing = _read_rows(dataset)
    files = [_inspect(images, image) for image in rows["image"]]
    faults = pd.Series([file.fault for file in files], rows.index, dtype=object)  # None if the image decodes
    rows = rows.assign(digest=[file.sha256 for file in files], reason=faults)
    contradictions = _find_contradictions(rows, existing)
    mixed_splits = _find_people_in_train_and_test(rows, existing)
    rows["reason"] = rows["reason"].fillna(contradictions).fillna(mixed_splits)
    sound = rows[rows["reason"].isna()]
    new = sound[~sound["digest"].isin(existing["digest"])].drop_duplicates("digest")
    if fault := _find_unusual_cameras(new, existing, rules):
        return _refuse_all(rows["image"].tolist(), fault)
    refused = rows.loc[rows["reason"].notna(), ["image", "reason"]]
    return Verdict(new[["image", *PARTICULARS, "digest"]], len(sound) - len(new), refused)


def read_dataset(dataset: Path) -> pd.DataFrame:
    """Read a dataset's rows, with each image's sha256 as `digest`; no rows if the dataset does not exist yet.

    Clocks that were reset are corrected across all batches, by the column `order`.
    """
    rows = _read_rows(dataset)
    time_s, _ = correct_resets(rows["camid"], rows[table.ORDER], rows["time_s"])
    return rows.assign(time_s=time_s)


def _read_rows(dataset: Path) -> pd.DataFrame:
    """Read a dataset's rows with the times that the cameras' clocks showed."""
    if not (dataset / TABLE).is_file():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in [*COLUMNS, "digest"]})
    rows = pd.read_csv(dataset / TABLE, float_precision="round_trip").reindex(columns=COLUMNS)
    return rows.assign(digest=rows["image"].map(lambda image: Path(image).stem))


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
    new = verdict.accepted.assign(image=names, arrived=arrived)
    existing = _read_rows(dataset)[COLUMNS]
    rows = pd.concat([existing, new[COLUMNS]]) if len(new) else existing
    if rows[table.ORDER].isna().all():
        rows = rows.drop(columns=table.ORDER)
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
    return Verdict(nothing, 0, pd.DataFrame({"image": images, "reason": "the batch is refused"}), fault)


def _find_contradictions(rows: pd.DataFrame, existing: pd.DataFrame) -> "pd.Series[str]":
    """Return a reason for each row whose image has other particulars in another row of the batch or the dataset."""
    columns = ["digest", *PARTICULARS]
    particulars = pd.concat([existing[columns], rows.loc[rows["digest"] != "", columns]])
    numbers = [name for name in PARTICULARS if name != "split"]
    by_image = particulars.astype(dict.fromkeys(numbers, "float64")).groupby("digest")
    differs = by_image[PARTICULARS[:-1]].nunique(dropna=False).gt(1).any(axis=1) | by_image[table.ORDER].nunique().gt(1)
    contradicts = rows["digest"].isin(differs[differs].index)
    reason = "the same image is there with another person, camera, time, split or order"
    return pd.Series(reason, rows.index).where(contradicts)


def _find_people_in_train_and_test(rows: pd.DataFrame, existing: pd.DataFrame) -> "pd.Series[str]":
    """Return a reason for each row that puts a person of the dataset's training into its test, or the reverse."""
    people = existing[existing["pid"] != JUNK]
    trained = set(people.loc[people["split"] == "train", "pid"])
    tested = set(people.loc[people["split"] != "train", "pid"])
    wrong = rows["pid"].isin(tested).where(rows["split"] == "train", rows["pid"].isin(trained))
    return pd.Series("the person is in the dataset, on the other side of training and test", rows.index).where(wrong)


def _find_unusual_cameras(new: pd.DataFrame, existing: pd.DataFrame, rules: IngestConfig) -> str:
    """Name the cameras whose share of the images has changed too much: off, turned, or with another number."""
    if min(len(new), len(existing)) < rules.share_from:
        return ""
    now, before = (part["camid"].astype(int).value_counts(normalize=True) for part in (new, existing))
    changes = now.sub(before, fill_value=0)
    unusual = changes[changes.abs() > rules.max_share_change].sort_index()
    shares = [
        f"camera {camid} has {now.get(camid, 0):.0%}, {before.get(camid, 0):.0%} before" for camid in unusual.index
    ]
    return f"{', '.join(shares)}; a change of at most {rules.max_share_change:.0%} is allowed" if shares else ""
