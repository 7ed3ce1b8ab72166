import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import flows.ingest as ingest_flow
from flows.ingest import IngestResult, ingest
from flows.stages import StageFailed
from qaconv.files import locking
from qaconv.runtime.decode import ALLOWED_FORMATS
from tests.flows.artifacts import artifact_data
from tests.ingest_projects import write_ingest_project
from tests.tracked_projects import write

pytestmark = pytest.mark.usefixtures("prefect_server")
TABLE = "image,pid,camid,time_s,split\n{}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into a worker's clone of a project with a dataset `shop`, whose DVC remote is a folder."""
    clone = write_ingest_project(tmp_path, str(tmp_path / "remote"))
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
    assert "must have the column" in result.message
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


def test_one_upload_that_cannot_be_ingested_stops_no_other(s3: Any, project: Path) -> None:
    for key in ("shop/a/", "shop/monday/images/", "root.png"):
        s3.put_object(Bucket="incoming", Key=key, Body=b"")
    write(project / "data/raw/quay", "a file where the dataset's folder must be")
    for batch, number in (("quay/monday", 3), ("shop/monday", 3), ("shop/tuesday", 4)):
        put_image(s3, batch, number)
        put_table(s3, batch, number)
    with pytest.raises(StageFailed, match="1 batches have failed.*\nquay/monday: .*data/raw/quay"):
        ingest()
    assert commits(project.parent / "origin") == ["Ingest shop/monday, shop/tuesday", "A project"]
    kept = ["quay/monday/3.png", "quay/monday/sightings.csv", "root.png", "shop/a/", "shop/monday/images/"]
    assert keys(s3, "incoming") == kept
    rows = {row["dataset"]: row for row in json.loads(artifact_data("ingest"))}
    assert rows["quay"]["accepted"] == 0 and "data/raw/quay" in rows["quay"]["message"]


def test_what_is_uploaded_while_a_batch_is_committed_is_ingested_by_the_next_flow(
    s3: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload_during_the_commit(folder: Path, batches: Sequence[str]) -> None:
        s3.upload_file("../6.png", "incoming", "shop/monday/5.png")
        put_table(s3, "shop/monday", 5, 7)

    for number in (5, 7):
        put_image(s3, "shop/monday", number)
    put_image(s3, "shop/elsewhere", 6)
    s3.delete_object(Bucket="incoming", Key="shop/elsewhere/6.png")
    put_table(s3, "shop/monday", 5)
    with monkeypatch.context() as patch:
        patch.setattr(ingest_flow, "commit_dataset", upload_during_the_commit)
        assert ingest() == []
    assert keys(s3, "incoming") == [f"shop/monday/{file}" for file in ("5.png", "7.png", "sightings.csv")]
    assert keys(s3, "quarantine") == []
    monkeypatch.setattr(ingest_flow, "commit_dataset", lambda *_: None)
    (result,) = ingest()
    assert (result.accepted, result.known, result.rejected) == (2, 0, 0)  # number 5 shows what 6 showed
    assert keys(s3, "incoming") == []


def test_an_incomplete_batch_is_reported_once_with_what_it_lacks(
    s3: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, ...]] = []
    monkeypatch.setattr(ingest_flow, "announce", lambda *event: events.append(event))
    put_image(s3, "shop/monday/images", 1)
    put_table(s3, "shop/monday", 1)
    put_image(s3, "shop/week/tuesday", 2)
    put_image(s3, "mall/monday", 2)
    assert ingest() == ingest() == []
    reasons = {
        "mall/monday/": "params.yaml has no dataset mall of layout table in a sightings.csv",
        "shop/monday/": "lacks 1.png; the table does not name images/1.png",
        "shop/week/": "lacks sightings.csv, has tuesday/2.png",
    }
    assert {row["batch"]: row["reason"] for row in json.loads(artifact_data("ingest-waiting"))} == reasons
    assert [event[2] for event in events] == [f"{batch}: {reason}" for batch, reason in reasons.items()]


def test_a_second_flow_in_the_same_folder_waits_for_the_first(s3: Any, project: Path) -> None:
    lasted = threading.Event()

    def hold_the_lock() -> None:
        with locking(ingest_flow.LOCK):
            holds.set()
            time.sleep(0.5)
            lasted.set()

    holds = threading.Event()
    first = threading.Thread(target=hold_the_lock)
    first.start()
    holds.wait()
    assert ingest() == [] and lasted.is_set()
    first.join()
