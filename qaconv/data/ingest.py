"""Check a batch of new sightings, and add the accepted ones to a dataset.

A batch is a folder of images and `sightings.csv`, a table as `data/layouts/table.py` reads it. A dataset is the same,
but its images are named by their content, so that an image that arrives twice is stored once.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from qaconv.config import IngestConfig
from qaconv.data.layouts import table
from qaconv.data.layouts.images import digest_and_fault
from qaconv.data.manifest import JUNK
from qaconv.errors import InputError
from qaconv.files import replacing_file

TABLE = "sightings.csv"
IMAGES = "images"  # of a dataset
PARTICULARS = ["pid", "camid", "time_s", "split"]
COLUMNS = ["image", *PARTICULARS, "arrived"]


@dataclass(frozen=True)
class Verdict:
    """What was found about a batch.

    Attributes:
        accepted: rows with the batch's `image`, PARTICULARS, and the images' sha256 as `digest`.
        known: how many images are in the dataset already, with the same particulars, or twice in the batch.
        refused: `image` and `reason` of each that may not join; all of them where the batch itself is refused.
        fault: why the batch as a whole is refused; empty where it is not.
    """

    accepted: pd.DataFrame
    known: int
    refused: pd.DataFrame
    fault: str = ""


def check_batch(batch: Path, dataset: Path, rules: IngestConfig) -> Verdict:
    """Looks at every image and at what the table says of it; changes nothing.

    Args:
        batch: its folder, with every image that the table names.
        dataset: its folder; need not exist yet.
        rules: params.yaml's.
    """
    try:
        rows = table.read(batch / TABLE, dataset.name).frame
    except InputError as error:
        return _refuse_all([path.relative_to(batch).as_posix() for path in _images(batch)], str(error))
    there = read_dataset(dataset)
    read = [digest_and_fault(batch / image) for image in rows["image"]]
    faults = pd.Series([fault for _, fault in read], rows.index, dtype=object)  # None where an image decodes
    rows = rows.assign(digest=[digest for digest, _ in read], reason=faults)
    rows["reason"] = rows["reason"].fillna(_contradictions(rows, there)).fillna(_on_both_sides(rows, there))
    sound = rows[rows["reason"].isna()]
    new = sound[~sound["digest"].isin(there["digest"])].drop_duplicates("digest")
    if fault := _unusual_cameras(new, there, rules):
        return _refuse_all(rows["image"].tolist(), fault)
    refused = rows.loc[rows["reason"].notna(), ["image", "reason"]]
    return Verdict(new[["image", *PARTICULARS, "digest"]], len(sound) - len(new), refused)


def read_dataset(dataset: Path) -> pd.DataFrame:
    """A dataset's rows, with each image's sha256 as `digest`; none where there is no dataset yet."""
    if not (dataset / TABLE).is_file():
        return pd.DataFrame({name: pd.Series(dtype=object) for name in [*COLUMNS, "digest"]})
    rows = pd.read_csv(dataset / TABLE)
    return rows.assign(digest=rows["image"].map(lambda image: Path(image).stem))


def join(verdict: Verdict, batch: Path, dataset: Path, arrived: str) -> None:
    """Adds what was accepted to the dataset; its table last, so that it names no image that is not there.

    Args:
        verdict: of the batch.
        batch: its folder.
        dataset: its folder, which is made if there is none.
        arrived: the moment now, in ISO 8601, UTC: what is known of already keeps its own.
    """
    names = [
        f"{IMAGES}/{digest}{Path(image).suffix.lower()}"
        for image, digest in zip(verdict.accepted["image"], verdict.accepted["digest"], strict=True)
    ]
    for image, name in zip(verdict.accepted["image"], names, strict=True):
        with replacing_file(dataset / name) as beside:
            shutil.copyfile(batch / image, beside)
    new = verdict.accepted.assign(image=names, arrived=arrived)
    rows = pd.concat([read_dataset(dataset)[COLUMNS], new[COLUMNS]]) if len(new) else read_dataset(dataset)[COLUMNS]
    with replacing_file(dataset / TABLE) as beside:
        rows.sort_values("image").to_csv(beside, index=False, lineterminator="\n")


def _images(batch: Path) -> list[Path]:
    return sorted(path for path in batch.rglob("*") if path.is_file() and path.name != TABLE)


def _refuse_all(images: list[str], fault: str) -> Verdict:
    nothing = pd.DataFrame(columns=["image", *PARTICULARS, "digest"])
    return Verdict(nothing, 0, pd.DataFrame({"image": images, "reason": "the batch is refused"}), fault)


def _contradictions(rows: pd.DataFrame, there: pd.DataFrame) -> "pd.Series[str]":
    """A reason for each row whose image is, in the batch or the dataset, somebody or somewhere else as well."""
    told = pd.concat([there[["digest", *PARTICULARS]], rows.loc[rows["digest"] != "", ["digest", *PARTICULARS]]])
    different = told.astype(dict.fromkeys(PARTICULARS[:3], "float64")).groupby("digest")[PARTICULARS]
    differing = different.nunique(dropna=False).gt(1).any(axis=1)
    both = rows["digest"].isin(differing[differing].index)
    return pd.Series("the same image is there with another person, camera, time or split", rows.index).where(both)


def _on_both_sides(rows: pd.DataFrame, there: pd.DataFrame) -> "pd.Series[str]":
    """A reason for each row that puts a person of the dataset's training into its test, or the other way round."""
    people = there[there["pid"] != JUNK]
    trained = set(people.loc[people["split"] == "train", "pid"])
    tested = set(people.loc[people["split"] != "train", "pid"])
    wrong = rows["pid"].isin(tested).where(rows["split"] == "train", rows["pid"].isin(trained))
    return pd.Series("the person is in the dataset, on the other side of training and test", rows.index).where(wrong)


def _unusual_cameras(new: pd.DataFrame, there: pd.DataFrame, rules: IngestConfig) -> str:
    """A camera whose share of the images differs from before: it is down, turned, or numbered anew."""
    if min(len(new), len(there)) < rules.share_from:
        return ""
    now, before = (part["camid"].astype(int).value_counts(normalize=True) for part in (new, there))
    changes = now.sub(before, fill_value=0)
    far = changes[changes.abs() > rules.max_share_change].sort_index()
    found = [f"camera {camid} has {now.get(camid, 0):.0%}, {before.get(camid, 0):.0%} before" for camid in far.index]
    return f"{', '.join(found)}; a change of at most {rules.max_share_change:.0%} is allowed" if found else ""
