"""Identities in a running service: killed updates, and the load of enrolments."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from qaconv.paths import ONNX, TLIFT
from qaconv.serving.identities.updates import BATCH
from tests.integration.running_service import MALL, PATIENCE_S, running, write_registered_project
from tests.small_identities import enrolment, tell_colours_apart

COUNT = 510
PART = 170


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project whose champion tells colours apart, which is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    write_registered_project(tmp_path, lambda: tell_colours_apart(ONNX, TLIFT))
    return tmp_path


def until_idle(client: httpx.Client) -> Any:
    """Wait for the end of an update, and return the list of identities."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        answer = client.get(f"{MALL}/identities", params={"limit": 500}).raise_for_status().json()
        if answer["update"]["state"] == "idle" and sum(row["sightings"] for row in answer["identities"]) == COUNT:
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"the update has not ended: {answer['update']}")


def searched(project: Path) -> int:
    """Count the sightings that a killed service has stored edges of, whose numbers must be those of whole batches."""
    with closing(sqlite3.connect(f"file:{project}/galleries/galleries.db?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM identities WHERE searched").fetchone()[0])


def test_a_killed_update_goes_on_after_the_next_start_and_loses_and_doubles_nothing(colours: Path) -> None:
    counts = []
    with running(colours) as (client, process):
        for first in range(0, COUNT, PART):
            client.post(f"{MALL}/sightings", json=enrolment(first, PART)).raise_for_status()
        client.post(f"{MALL}/identities").raise_for_status()
        time.sleep(1.0)
        process.kill()
        process.wait()
        counts.append(searched(colours))
    for _ in range(2):
        with running(colours) as (_, process):
            time.sleep(0.3)
            process.kill()
            process.wait()
            counts.append(searched(colours))
    assert counts == sorted(counts) and all(count % BATCH == 0 or count == COUNT for count in counts)
    with running(colours) as (client, _):
        listed = until_idle(client)
        assert [(row["identity"], row["sightings"]) for row in listed["identities"]] == [
            (number, COUNT // 3) for number in (1, 2, 3)
        ]
        client.delete(f"{MALL}/people/p1").raise_for_status()
        assert [row["identity"] for row in client.get(f"{MALL}/identities").json()["identities"]] == [1, 3]
        assert client.get(f"{MALL}/identities/2").status_code == 404
