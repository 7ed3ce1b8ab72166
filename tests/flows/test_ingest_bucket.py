"""Batches in S3 are read, quarantined and deleted by the content that was listed, whatever their keys are."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.ingest_bucket import INCOMING, QUARANTINE, Batch, BatchChanged, BatchTable, IngestBucket

TABLE = "image,pid,camid,time_s,split\n{}"


def put(s3: Any, files: dict[str, bytes], prefix: str = "shop/monday/") -> None:
    for file, content in files.items():
        s3.put_object(Bucket=INCOMING, Key=prefix + file, Body=content)


def table_of(*images: str) -> bytes:
    return TABLE.format("".join(f'"{image}",1,0,0.5,gallery\n' for image in images)).encode()


def content(s3: Any, bucket: str) -> dict[str, bytes]:
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def read(bucket: IngestBucket) -> tuple[Batch, BatchTable]:
    (batch,) = bucket.batches()
    table = bucket.read_table(batch)
    assert table is not None
    return batch, table


def test_keys_that_are_no_paths_are_downloaded_by_their_number(s3: Any, tmp_path: Path) -> None:
    names = ["x", "x/1.png", "n" * 300 + ".png", "a\nb.png", "day\\c.png"]
    put(s3, {name: name.encode() for name in names})
    put(s3, {"../up.png": b"up", "images/": b"", "": b"", "sightings.csv": table_of(*names)})
    bucket = IngestBucket()
    batch, table = read(bucket)
    images = bucket.download(batch, table, tmp_path)
    assert {name: path.read_bytes() for name, path in images.items()} == {name: name.encode() for name in names}
    assert table.unnamed == ("../up.png",) and table.missing == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "3", "4"]


def test_folders_of_consoles_are_no_batches_and_keys_outside_batches_are_listed_together(s3: Any) -> None:
    put(s3, dict.fromkeys(["shop/", "shop/a/", "shop/b/images/", "root.png", "shop/c.png", "shop//d.png"], b""), "")
    put(s3, {"Sightings.CSV": table_of("1.png")}, "shop/deep/monday/")
    listed = [(batch.prefix, sorted(batch.etags)) for batch in IngestBucket().batches()]
    assert listed == [("", ["root.png", "shop//d.png", "shop/c.png"]), ("shop/deep/", ["monday/Sightings.CSV"])]


def test_a_table_is_found_in_another_case_and_its_unreadable_content_names_nothing(s3: Any) -> None:
    put(s3, {"SIGHTINGS.csv": b"\xff\xfe,", "1.png": b"1"})
    _, table = read(IngestBucket())
    assert (table.file, table.unnamed) == ("SIGHTINGS.csv", ("1.png",))


@pytest.mark.parametrize("changed", ["1.png", "sightings.csv", "3.png"])
def test_a_file_that_is_uploaded_after_the_listing_is_noticed_and_kept(s3: Any, tmp_path: Path, changed: str) -> None:
    put(s3, {"1.png": b"1", "2.png": b"2", "sightings.csv": table_of("1.png", "2.png")})
    bucket = IngestBucket()
    batch, table = read(bucket)
    put(s3, {changed: b"new"})
    with pytest.raises(BatchChanged, match="shop/monday/"):
        bucket.check_unchanged(batch)
    if changed == "1.png":
        with pytest.raises(BatchChanged, match=r"1\.png"):
            bucket.download(batch, table, tmp_path)
    if changed != "3.png":
        with pytest.raises(BatchChanged, match=changed):
            bucket.delete(batch, table)
    assert content(s3, INCOMING)[f"shop/monday/{changed}"] == b"new"


def test_what_is_rejected_or_not_named_is_in_quarantine_with_its_reason(s3: Any) -> None:
    put(
        s3,
        {
            "1.png": b"1",
            "A.png": b"a",
            "notes.txt": b"n",
            "report.json": b"r",
            "sightings.csv": table_of("1.png", "a.png"),
        },
    )
    bucket = IngestBucket()
    batch, table = read(bucket)
    assert bucket.quarantine(batch, table, "", {"a.png": "is not an image"}) == 3
    quarantined = content(s3, QUARANTINE)
    unnamed = "the table does not name it"
    assert json.loads(quarantined.pop("shop/monday/report.json")) == {
        "batch": "",
        "images": {"A.png": "is not an image", "notes.txt": unnamed, "report.json": unnamed},
    }
    assert quarantined == {
        "shop/monday/A.png": b"a",
        "shop/monday/notes.txt": b"n",
        "shop/monday/uploaded-report.json": b"r",
        "shop/monday/sightings.csv": table.content,
    }


def test_quarantine_keeps_one_copy_of_an_equal_batch_and_both_of_a_changed_one(s3: Any) -> None:
    bucket = IngestBucket()
    for image in (b"first", b"first", b"second", b"first"):
        put(s3, {"1.png": image, "sightings.csv": table_of("1.png")})
        batch, table = read(bucket)
        bucket.quarantine(batch, table, "", {"1.png": "is not an image"})
        bucket.delete(batch, table)
        assert content(s3, INCOMING) == {}
    images = {key: body for key, body in content(s3, QUARANTINE).items() if key.endswith(".png")}
    assert images == {"shop/monday/1.png": b"first", "shop/monday.2/1.png": b"second"}
