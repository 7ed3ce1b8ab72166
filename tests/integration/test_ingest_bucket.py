"""SeaweedFS, the S3 server of one machine, keeps what was overwritten, as the in-process S3 of the other tests does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from flows.ingest_bucket import INCOMING, QUARANTINE, BatchChanged, IngestBucket
from tests.integration.running_servers import seaweed

TABLE = b"image,pid,camid,time_s,split\nx,1,0,,gallery\nx/1.png,1,0,,gallery\nday\\2.PNG,1,0,,gallery\n"


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start SeaweedFS, and return a client with the two buckets."""
    with seaweed(tmp_path, monkeypatch):
        yield boto3.client("s3")


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_a_batch_is_read_quarantined_and_deleted_by_its_content(s3: Any, tmp_path: Path) -> None:
    def put(file: str, content: bytes) -> None:
        s3.put_object(Bucket=INCOMING, Key=f"shop/monday/{file}", Body=content)

    files = {"images/": b"", "x": b"x", "x/1.png": b"1", "day/2.png": b"2", "extra": b"e", "sightings.csv": TABLE}
    for file, content in files.items():
        put(file, content)
    bucket = IngestBucket()
    (batch,) = bucket.batches()
    table = bucket.read_table(batch)
    assert table is not None and table.missing == () and table.unnamed == ("extra",)
    (tmp_path / "batch").mkdir()
    images = bucket.download(batch, table, tmp_path / "batch")
    assert {path.read_bytes() for path in images.values()} == {b"x", b"1", b"2"}
    assert bucket.quarantine(batch, table, "", {"x/1.png": "is not an image"}) == 2
    assert keys(s3, QUARANTINE) == [
        f"shop/monday/{file}" for file in ("extra", "report.json", "sightings.csv", "x/1.png")
    ]

    put("x", b"newer")
    with pytest.raises(BatchChanged):
        bucket.check_unchanged(batch)
    with pytest.raises(BatchChanged, match="x has changed"):
        bucket.delete(batch, table)
    assert s3.get_object(Bucket=INCOMING, Key="shop/monday/x")["Body"].read() == b"newer"
    put("sightings.csv", TABLE)
    for batch in bucket.batches():
        bucket.delete(batch, table)
    assert [key for key in keys(s3, INCOMING) if not key.endswith("/")] == []
