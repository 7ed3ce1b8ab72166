"""The S3 bucket that new sightings are put into: batches that are whole come out, and are settled one by one.

A batch is `s3://incoming/<dataset>/<batch>/`: images, and `sightings.csv`, which names them. It is whole when every
image that the table names is there, in whatever order they were uploaded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
import pandas as pd
from botocore.config import Config

from qaconv.data.ingest import TABLE, Verdict

INCOMING, QUARANTINE = "incoming", "quarantine"  # buckets
RETRIES = Config(retries={"mode": "standard", "max_attempts": 8})  # S3 may be away for a moment


@dataclass(frozen=True)
class Batch:
    """One upload.

    Attributes:
        dataset: that it is for.
        name: of the batch.
        files: keys below the batch's prefix, `sightings.csv` among them.
        awaited: images that the table names and nobody has uploaded yet.
    """

    dataset: str
    name: str
    files: tuple[str, ...]
    awaited: tuple[str, ...]

    @property
    def prefix(self) -> str:
        return f"{self.dataset}/{self.name}/"


class Inbox:
    """The buckets `incoming` and `quarantine`, reached as AWS_ENDPOINT_URL and the other variables of AWS say."""

    def __init__(self) -> None:
        self._s3: Any = boto3.client("s3", config=RETRIES)

    def batches(self) -> Iterator[Batch]:
        """Those that have a table, whole or not, in the order of their names."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=INCOMING)
        uploaded = sorted(each["Key"] for page in pages for each in page.get("Contents", ()))
        for key in uploaded:
            dataset, _, rest = key.partition("/")
            name, _, file = rest.partition("/")
            if file != TABLE:
                continue
            prefix = f"{dataset}/{name}/"
            files = tuple(other.removeprefix(prefix) for other in uploaded if other.startswith(prefix))
            awaited = tuple(sorted(self._named(key) - set(files)))
            yield Batch(dataset, name, files, awaited)

    def fetch(self, batch: Batch, folder: Path) -> None:
        """Downloads a batch into an empty folder; a key that would lead out of it is left where it is."""
        for file in batch.files:
            if ".." not in PurePosixPath(file).parts and not file.startswith("/"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(INCOMING, batch.prefix + file, str(folder / file))

    def quarantine(self, batch: Batch, verdict: Verdict) -> None:
        """Copies the images that were refused, and the table, to quarantine, with `report.json`: which, and why."""
        images = [image for image in verdict.refused["image"] if image in batch.files]
        for file in [*images, TABLE]:
            source = {"Bucket": INCOMING, "Key": batch.prefix + file}
            self._s3.copy_object(CopySource=source, Bucket=QUARANTINE, Key=batch.prefix + file)
        report = {"batch": verdict.fault, "images": dict(verdict.refused[["image", "reason"]].to_numpy())}
        body = json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False).encode()
        self._s3.put_object(Bucket=QUARANTINE, Key=batch.prefix + "report.json", Body=body)

    def remove(self, batch: Batch) -> None:
        """Deletes a batch that has been settled, its table first: what is left of it then is no batch."""
        for file in sorted(batch.files, key=lambda file: file != TABLE):
            self._s3.delete_object(Bucket=INCOMING, Key=batch.prefix + file)

    def _named(self, key: str) -> set[str]:
        """The images that a table names; none where it cannot be read, which the check of the batch will say."""
        try:
            body = self._s3.get_object(Bucket=INCOMING, Key=key)["Body"].read()
            return set(pd.read_csv(BytesIO(body), dtype=str)["image"].dropna())
        except (ValueError, KeyError):
            return set()
