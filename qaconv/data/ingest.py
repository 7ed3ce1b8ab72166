"""Check a batch of new sightings: images and `sightings.csv`, a table that `data/layouts/table.py` reads."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from qaconv.config.operation import IngestConfig
from qaconv.data.ingest_dataset import PARTICULARS, Dataset, Verdict
from qaconv.data.ingest_names import leads_out
from qaconv.data.layouts import table
from qaconv.data.layouts.images import ImageFile, inspect_image
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.times import UNIX_EPOCH


def check_batch(batch: Path, images: Mapping[str, Path], dataset: Dataset, rules: IngestConfig) -> Verdict:
    """Check every image of a batch and its row in the table. Nothing is written.

    Args:
        batch: the batch's table.
        images: file of each image, by its name in the table.
        dataset: what it would be added to.
        rules: largest change of a camera's share of the images.
    """
    try:
        sent = table.read_rows(batch)
        split = table.split_unlabelled(sent.rows)
        checked = Manifest(sent.rows.assign(domain=dataset.folder.name, split=split), batch.parent).frame
    except InputError as error:
        return _refuse_all(list(images), str(error))
    rows = checked[["image"]].merge(sent.rows, on="image")
    if fault := _find_mixed_times(sent, dataset):
        return _refuse_all(rows["image"].tolist(), f"{batch}: {fault}")
    files = [_inspect(images, image) for image in rows["image"]]
    faults = pd.Series([file.fault for file in files], rows.index, dtype=object)  # None if the image decodes
    rows = rows.assign(digest=[file.sha256 for file in files], reason=faults)
    for find in (_find_contradictions, _find_people_in_train_and_test, _find_divided_tracks):
        rows["reason"] = rows["reason"].fillna(find(rows, dataset))
    sound = rows[rows["reason"].isna()]
    new = sound[~dataset.has(sound["digest"])].drop_duplicates("digest")
    if fault := _find_unusual_cameras(new, dataset, rules):
        return _refuse_all(rows["image"].tolist(), fault)
    refused = rows.loc[rows["reason"].notna(), ["image", "reason"]]
    return Verdict(new[["image", *PARTICULARS, "digest"]], len(sound) - len(new), refused, sent.time_origin)


def _inspect(images: Mapping[str, Path], image: str) -> ImageFile:
    if image in images:
        return inspect_image(images[image])
    return ImageFile("", fault="leads out of the batch" if leads_out(image) else "is not in the batch")


def _refuse_all(images: list[str], fault: str) -> Verdict:
    nothing = pd.DataFrame(columns=["image", *PARTICULARS, "digest"])
    return Verdict(nothing, 0, pd.DataFrame({"image": images, "reason": "the batch is refused"}), fault=fault)


def _find_mixed_times(sent: table.Table, dataset: Dataset) -> str:
    """Say which kind of time a batch must have, if it has another than the dataset; "" if it may be added."""
    have_times = sent.rows["time_s"].notna().any() and dataset.has_times
    if not have_times or sent.time_origin == dataset.time_origin:
        return ""
    kinds = {"": "seconds on the cameras' clocks", UNIX_EPOCH: "dates or Unix milliseconds"}
    return f"times must be {kinds[dataset.time_origin]} as in the dataset, got {kinds[sent.time_origin]}"


def _find_contradictions(rows: pd.DataFrame, dataset: Dataset) -> "pd.Series[str]":
    """Return a reason for each row whose image has other particulars in another row of the batch or the dataset."""
    sent = rows.loc[rows["digest"] != "", ["digest", *PARTICULARS]]
    stored = dataset.rows_of(sent["digest"])
    by_image = (pd.concat([stored, sent]) if len(stored) else sent).groupby("digest")
    exact = [name for name in PARTICULARS if name != table.ORDER]
    differs = by_image[exact].nunique(dropna=False).gt(1).any(axis=1) | by_image[table.ORDER].nunique().gt(1)
    contradicts = rows["digest"].isin(differs[differs].index)
    reason = "the same image is there with another person, camera, time, split, order or track"
    return pd.Series(reason, rows.index).where(contradicts)


def _find_people_in_train_and_test(rows: pd.DataFrame, dataset: Dataset) -> "pd.Series[str]":
    """Return a reason for each row that puts a person of the dataset's training into its test, or the reverse."""
    wrong = rows["pid"].isin(dataset.tested).where(rows["split"] == "train", rows["pid"].isin(dataset.trained))
    return pd.Series("the person is in the dataset, on the other side of training and test", rows.index).where(wrong)


def _find_divided_tracks(rows: pd.DataFrame, dataset: Dataset) -> "pd.Series[str]":
    """Return a reason for each row whose track is in the dataset with another person, camera or split."""
    stored = dataset.places_of(rows["track"])
    differs = stored["pid"].notna() & (rows[stored.columns].astype(object) != stored).any(axis=1)
    reason = "its track is in the dataset with another person, camera or split"
    return pd.Series(reason, rows.index).where(differs)


def _find_unusual_cameras(new: pd.DataFrame, dataset: Dataset, rules: IngestConfig) -> str:
    """Name the cameras whose share of the images has changed too much: off, turned, or with another number."""
    if min(len(new), len(dataset)) < rules.share_from:
        return ""
    now, before = new["camera"].value_counts(normalize=True), pd.Series(dataset.cameras) / len(dataset)
    changes = now.sub(before, fill_value=0)
    unusual = changes[changes.abs() > rules.max_share_change].sort_index()
    shares = [
        f"camera {camid} has {now.get(camid, 0):.0%}, {before.get(camid, 0):.0%} before" for camid in unusual.index
    ]
    return f"{', '.join(shares)}; a change of at most {rules.max_share_change:.0%} is allowed" if shares else ""
