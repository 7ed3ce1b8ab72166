import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import yaml
from moto import mock_aws
from PIL import Image

from flows.ingest import IngestResult, ingest
from flows.stages import StageFailed
from qaconv.runtime.decode import ALLOWED_FORMATS
from tests.tracked_projects import REPOSITORY, commit_all, write

pytestmark = pytest.mark.usefixtures("prefect_server")
TABLE = "image,pid,camid,time_s,split\n{}"


@pytest.fixture
def s3() -> Iterator[Any]:
    """Return a client of an in-process S3 with the two buckets."""
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        client = boto3.client("s3")
        for bucket in ("incoming", "quarantine"):
            client.create_bucket(Bucket=bucket)
        yield client


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a worker's clone of a project with a dataset `shop`, whose DVC remote is a folder."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    settings["datasets"]["shop"] = {"layout": "table", "path": "data/raw/shop/sightings.csv"}
    write(origin / "params.yaml", yaml.safe_dump(settings))
    write(origin / ".gitignore", (REPOSITORY / ".gitignore").read_text(encoding="utf-8"))
    remote = (
        f"[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n"
    )
    write(origin / ".dvc/config", remote)
    commit_all(origin)
    subprocess.run(["git", "config", "receive.denyCurrentBranch", "updateInstead"], cwd=origin, check=True)
    subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
    monkeypatch.chdir(clone)
    return clone


def put_image(s3: Any, batch: str, number: int) -> None:
    path = Path(f"../{number}.png")
    pixels = np.random.default_rng(number).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    s3.upload_file(str(path), "incoming", f"{batch}/{number}.png")


def put_table(s3: Any, batch: str, *numbers: int) -> None:
    rows = "".join(f"{number}.png,{number},0,{number}.5,gallery\n" for number in numbers)
    s3.put_object(Bucket="incoming", Key=f"{batch}/sightings.csv", Body=TABLE.format(rows).encode())


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


def commits(folder: Path) -> list[str]:
    command = ["git", "log", "--format=%s"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_batch_is_ingested_once_when_its_last_image_is_there(s3: Any, project: Path) -> None:
    origin = project.parent / "origin"
    put_image(s3, "shop/monday", 1)
    put_table(s3, "shop/monday", 1, 2)
    assert ingest() == []
    assert commits(origin) == ["A project"]

    put_image(s3, "shop/monday", 2)
    assert ingest() == [IngestResult("shop", "monday", accepted=2, known=0, rejected=0, message="")]
    assert commits(origin) == ["Ingest shop/monday", "A project"]
    assert (origin / "data/raw/shop.dvc").is_file()
    assert len(list((project.parent / "remote/files/md5").rglob("*.dir"))) == 1
    assert keys(s3, "incoming") == []

    for number in (1, 2):
        put_image(s3, "shop/once-more", number)
    put_table(s3, "shop/once-more", 1, 2)
    assert ingest() == [IngestResult("shop", "once-more", accepted=0, known=2, rejected=0, message="")]
    assert commits(origin) == ["Ingest shop/monday", "A project"]


def test_rejected_images_and_tables_are_moved_to_quarantine_with_the_reason(s3: Any, project: Path) -> None:
    put_image(s3, "shop/monday", 1)
    s3.put_object(Bucket="incoming", Key="shop/monday/2.png", Body=b"no image")
    put_table(s3, "shop/monday", 1, 2)
    (result,) = ingest()
    assert (result.accepted, result.rejected) == (1, 1)
    assert keys(s3, "quarantine") == ["shop/monday/2.png", "shop/monday/report.json", "shop/monday/sightings.csv"]
    report = s3.get_object(Bucket="quarantine", Key="shop/monday/report.json")["Body"].read()
    assert json.loads(report) == {"batch": "", "images": {"2.png": f"is not an image, allowed: {ALLOWED_FORMATS}"}}

    s3.put_object(Bucket="incoming", Key="shop/tuesday/sightings.csv", Body=b"who,where\n1,2\n")
    (result,) = ingest()
    assert "must have the columns" in result.message
    assert "shop/tuesday/sightings.csv" in keys(s3, "quarantine")
    assert keys(s3, "incoming") == []


def test_a_batch_for_a_dataset_that_cannot_grow_stays_in_the_bucket(s3: Any, project: Path) -> None:
    put_table(s3, "mall/monday")
    put_table(s3, "harbour/monday")
    assert ingest() == []
    assert keys(s3, "incoming") == ["harbour/monday/sightings.csv", "mall/monday/sightings.csv"]


def test_a_batch_whose_commit_is_rejected_stays_and_is_ingested_the_next_time(s3: Any, project: Path) -> None:
    origin = project.parent / "origin"
    put_image(s3, "shop/monday", 1)
    put_table(s3, "shop/monday", 1)
    committed = (origin / "params.yaml").read_bytes()
    write(origin / "params.yaml", "someone's work in progress\n")
    with pytest.raises(StageFailed, match="git push"):
        ingest()
    assert keys(s3, "incoming") == ["shop/monday/1.png", "shop/monday/sightings.csv"]

    (origin / "params.yaml").write_bytes(committed)
    subprocess.run(["git", "fetch", "--quiet"], check=True)  # as infra/prefect/check_out.sh does before a run
    subprocess.run(["git", "checkout", "--quiet", "--force", "--detach", "origin/HEAD"], check=True)
    assert [result.message for result in ingest()] == [""]
    assert commits(origin) == ["Ingest shop/monday", "A project"]
    assert keys(s3, "incoming") == []
