"""List, download, quarantine and delete the batches of new sightings in S3.

A batch is `s3://incoming/<dataset>/<batch>/`: images, and `sightings.csv`, which names them. It is complete when every
image that the table names has been uploaded, in any order.
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

INCOMING = "incoming"  # bucket that people upload to
QUARANTINE = "quarantine"  # bucket of rejected files
RETRIES = Config(retries={"mode": "standard", "max_attempts": 8})  # S3 may be down for a moment


@dataclass(frozen=True)
class Batch:
    """One upload.

    Attributes:
        dataset: name of the dataset that it is for.
        name: name of the batch.
        files: keys below the batch's prefix, `sightings.csv` among them.
        missing: images that the table names and nobody has uploaded yet.
    """

    dataset: str
    name: str
    files: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def prefix(self) -> str:
        return f"{self.dataset}/{self.name}/"


class IngestBucket:
    """The buckets `incoming` and `quarantine`, at the address in AWS_ENDPOINT_URL and the other AWS variables."""

    def __init__(self) -> None:
        self._s3: Any = boto3.client("s3", config=RETRIES)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches that have a table, complete or not, sorted by name."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=INCOMING)
        keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))
        for key in keys:
            dataset, _, rest = key.partition("/")
            name, _, file = rest.partition("/")
            if file != TABLE:
                continue
            prefix = f"{dataset}/{name}/"
            files = tuple(other.removeprefix(prefix) for other in keys if other.startswith(prefix))
            missing = tuple(sorted(self._named_images(key) - set(files)))
            yield Batch(dataset, name, files, missing)

    def download(self, batch: Batch, folder: Path) -> None:
        """Download a batch into an empty folder, and skip keys that lead out of it."""
        for file in batch.files:
            if ".." not in PurePosixPath(file).parts and not file.startswith("/"):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(INCOMING, batch.prefix + file, str(folder / file))

    def quarantine(self, batch: Batch, verdict: Verdict) -> None:
        """Copy the rejected images and the table to quarantine, with a `report.json` of the reasons."""
        images = [image for image in verdict.refused["image"] if image in batch.files]
        for file in [*images, TABLE]:
            source = {"Bucket": INCOMING, "Key": batch.prefix + file}
            self._s3.copy_object(CopySource=source, Bucket=QUARANTINE, Key=batch.prefix + file)
        report = {"batch": verdict.fault, "images": dict(verdict.refused[["image", "reason"]].to_numpy())}
        body = json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False).encode()
        self._s3.put_object(Bucket=QUARANTINE, Key=batch.prefix + "report.json", Body=body)

    def delete(self, batch: Batch) -> None:
        """Delete a batch from `incoming`, its table first: files without a table are no batch."""
        for file in sorted(batch.files, key=lambda file: file != TABLE):
            self._s3.delete_object(Bucket=INCOMING, Key=batch.prefix + file)

    def _named_images(self, key: str) -> set[str]:
        """Return the images that a table names; none if it cannot be read, which check_batch reports."""
        try:
            body = self._s3.get_object(Bucket=INCOMING, Key=key)["Body"].read()
            return set(pd.read_csv(BytesIO(body), dtype=str)["image"].dropna())
        except (ValueError, KeyError):
            return set()
