"""List, download, quarantine and delete the batches of new sightings in S3.

A batch is `s3://incoming/<dataset>/<batch>/`: images, and `sightings.csv`, which names them. It is complete when every
image that the table names has been uploaded, in any order. Every file is known by its ETag in the listing: a file that
has another one when it is read, or before it is deleted, was overwritten meanwhile.
"""

import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pandas as pd
from botocore.config import Config
from botocore.exceptions import ClientError

from qaconv.data.ingest_dataset import TABLE
from qaconv.data.ingest_names import leads_out, match_names

INCOMING = "incoming"  # bucket that people upload to
QUARANTINE = "quarantine"  # bucket of rejected files
REPORT = "report.json"  # in quarantine: why the files next to it were rejected
TRANSFERS = 16  # files that are fetched or deleted at a time
RETRIES = Config(retries={"mode": "standard", "max_attempts": 8}, max_pool_connections=TRANSFERS)  # S3 may be down


class BatchChanged(RuntimeError):
    """A file of a batch was uploaded, overwritten or deleted after the batch was listed."""


class Listed(NamedTuple):
    """What is kept of a key's entry in a listing: a million of them must fit into memory."""

    etag: str
    uploaded: datetime


@dataclass(frozen=True)
class Batch:
    """The files of one upload.

    Attributes:
        dataset: name of the dataset that it is for; "" for keys that are not in <dataset>/<batch>/.
        name: name of the batch, or "".
        etags: ETag of each file when the batch was listed, by the file's key below `prefix`.
        last_upload: time of the newest file, in UTC.
    """

    dataset: str
    name: str
    etags: Mapping[str, str]
    last_upload: datetime

    @property
    def prefix(self) -> str:
        return f"{self.dataset}/{self.name}/" if self.name else ""


@dataclass(frozen=True)
class BatchTable:
    """The table of a batch.

    Attributes:
        file: its key below the batch's prefix.
        content: the CSV file.
        images: file of each image that has been uploaded, by its name in the table.
        missing: images that the table names and nobody has uploaded yet.
        unnamed: files that the table does not name.
    """

    file: str
    content: bytes
    images: Mapping[str, str]
    missing: tuple[str, ...]
    unnamed: tuple[str, ...]


class IngestBucket:
    """The buckets `incoming` and `quarantine`, at the address in AWS_ENDPOINT_URL and the other AWS variables."""

    def __init__(self) -> None:
        self._s3: Any = boto3.client("s3", config=RETRIES)
        self._transfers = ThreadPoolExecutor(TRANSFERS, thread_name_prefix="ingest")

    def batches(self) -> list[Batch]:
        """List the uploads, complete or not, sorted by name."""
        groups: defaultdict[tuple[str, str], dict[str, Listed]] = defaultdict(dict)
        for key, entry in self._list("").items():
            dataset, _, rest = key.partition("/")
            name, _, file = rest.partition("/")
            if dataset and name and file:
                groups[dataset, name][file] = entry
            else:
                groups["", ""][key] = entry
        return [
            Batch(
                dataset,
                name,
                {file: entry.etag for file, entry in files.items()},
                max(entry.uploaded for entry in files.values()),
            )
            for (dataset, name), files in sorted(groups.items())
        ]

    def read_table(self, batch: Batch) -> BatchTable | None:
        """Read a batch's table; None if it has not been uploaded.

        Raises:
            BatchChanged: it was overwritten or deleted.
        """
        file = match_names([TABLE], batch.etags).get(TABLE)
        if file is None:
            return None
        content = self._open(batch, file).read()
        names = {name for name in _named_images(content) if not leads_out(name)}
        images = match_names(names, batch.etags.keys() - {file})
        unnamed = batch.etags.keys() - {file, *images.values()}
        return BatchTable(file, content, images, tuple(sorted(names - images.keys())), tuple(sorted(unnamed)))

    def download(self, batch: Batch, table: BatchTable, folder: Path) -> dict[str, Path]:
        """Download the images that the table names, and return each one's path by its name in the table.

        Keys are no paths: the files are numbered.

        Raises:
            BatchChanged: an image was overwritten or deleted.
        """
        paths = {file: folder / str(number) for number, file in enumerate(sorted(set(table.images.values())))}

        def fetch(file: str) -> None:
            with paths[file].open("wb") as download:
                shutil.copyfileobj(self._open(batch, file), download)

        list(self._transfers.map(fetch, paths))
        return {name: paths[file] for name, file in table.images.items()}

    def check_unchanged(self, batch: Batch) -> None:
        """Check that a batch's files are still those that were listed.

        Raises:
            BatchChanged: a file was uploaded, overwritten or deleted.
        """
        present = {key.removeprefix(batch.prefix): entry.etag for key, entry in self._list(batch.prefix).items()}
        if present != batch.etags:
            raise BatchChanged(f"{batch.prefix}: has changed meanwhile")

    def quarantine(self, batch: Batch, table: BatchTable, fault: str, reasons: Mapping[str, str]) -> int:
        """Copy rejected files and the table to quarantine, with a `report.json`, and return the number of files.

        An earlier batch of the same name and other content keeps its place in quarantine; this one gets a number.

        Args:
            batch: the batch.
            table: its table.
            fault: why the whole batch is rejected, or "".
            reasons: why each image is rejected, by its name in the table.

        Raises:
            BatchChanged: a file was overwritten or deleted.
        """
        unnamed = "the batch is refused" if fault else "the table does not name it"
        images = {table.images.get(name, name): reason for name, reason in reasons.items()}
        images |= dict.fromkeys(table.unnamed, unnamed)
        files = images.keys() & batch.etags.keys()
        prefix, digest = self._choose_quarantine(batch)
        for file in sorted(files | {table.file}):
            key = prefix + (f"uploaded-{REPORT}" if file == REPORT else file)
            self._s3.upload_fileobj(self._open(batch, file), QUARANTINE, key)
        report = json.dumps({"batch": fault, "images": images}, indent=2, sort_keys=True, ensure_ascii=False)
        self._s3.put_object(Bucket=QUARANTINE, Key=prefix + REPORT, Body=report.encode(), Metadata={"batch": digest})
        return len(files)

    def delete(self, batch: Batch, table: BatchTable) -> None:
        """Delete a batch from `incoming`, its table first: files without a table are no batch.

        Raises:
            BatchChanged: a file was overwritten; it is kept, and if it is the table, all files are.
        """

        def delete(file: str) -> None:
            with _raising_batch_changed(batch, file):
                self._s3.delete_object(Bucket=INCOMING, Key=batch.prefix + file, IfMatch=batch.etags[file])

        delete(table.file)
        list(self._transfers.map(delete, batch.etags.keys() - {table.file}))

    def _list(self, prefix: str) -> dict[str, Listed]:
        """List keys; a key that ends in a slash is a folder that a console has made."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=INCOMING, Prefix=prefix)
        entries = (entry for page in pages for entry in page.get("Contents", ()))
        return {
            entry["Key"]: Listed(entry["ETag"], entry["LastModified"])
            for entry in entries
            if not entry["Key"].endswith("/")
        }

    def _open(self, batch: Batch, file: str) -> Any:
        """Open a file of a batch with the content that was listed."""
        key = batch.prefix + file
        with _raising_batch_changed(batch, file):
            return self._s3.get_object(Bucket=INCOMING, Key=key, IfMatch=batch.etags[file])["Body"]

    def _choose_quarantine(self, batch: Batch) -> tuple[str, str]:
        """Return the first prefix without another batch's report, and the digest that marks this batch's."""
        digest = sha256(json.dumps(sorted(batch.etags.items())).encode()).hexdigest()
        for number in itertools.count(1):
            prefix = batch.prefix if number == 1 else f"{batch.dataset}/{batch.name}.{number}/"
            try:
                report = self._s3.head_object(Bucket=QUARANTINE, Key=prefix + REPORT)
            except ClientError as error:
                if _status(error) != 404:
                    raise
                break
            if report["Metadata"].get("batch") == digest:
                break
        return prefix, digest


@contextmanager
def _raising_batch_changed(batch: Batch, file: str) -> Iterator[None]:
    """Raise BatchChanged if S3 answers that the file is gone or has another ETag."""
    try:
        yield
    except ClientError as error:
        if _status(error) in (404, 412):
            raise BatchChanged(f"{batch.prefix}: {file} has changed meanwhile") from error
        raise


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _named_images(content: bytes) -> set[str]:
    """Return the images that a table names; none if it cannot be read, which check_batch reports."""
    try:
        return set(pd.read_csv(BytesIO(content), dtype=str)["image"].dropna())
    except (ValueError, KeyError):
        return set()
