"""Enrol a shop's sightings in a running service, keep asking it, and count its right answers."""

import base64
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pandas as pd

from tests.integration.running_service import PATIENCE_S

SHOP = "/v1/targets/shop"
BATCH = 128  # sightings of an enrolment
QUERIES = 60  # of one search, at most
FIRST = 5  # answers of a query that are counted


class Answer(NamedTuple):
    """Status, version and number of answers of one search."""

    status: int
    version: str
    answers: int


def enrol(client: httpx.Client, sightings: pd.DataFrame, root: Path) -> dict[int, int]:
    """Enrol sightings, and return the person of each by its id in the service."""
    pids: dict[int, int] = {}
    for start in range(0, len(sightings), BATCH):
        batch = sightings.iloc[start : start + BATCH]
        body = [
            {"image": _read(root / row["image"]), "camid": row["camid"], "time_s": row["time_s"]}
            for row in batch.to_dict("records")
        ]
        ids = client.post(f"{SHOP}/sightings", json={"sightings": body}).raise_for_status().json()["ids"]
        pids |= dict(zip(ids, batch["pid"].tolist(), strict=True))
    return pids


def share_right(client: httpx.Client, queries: pd.DataFrame, root: Path, pids: Mapping[int, int]) -> float:
    """Return the share of right ones among the first answers on other cameras, by looks alone.

    Args:
        client: of the service.
        queries: image, pid and camid of each, at most QUERIES on each camera.
        root: folder of the images.
        pids: of `enrol`.
    """
    right: list[bool] = []
    for camid, rows in queries.groupby("camid"):
        others = sorted(set(queries["camid"]) - {camid})
        body = {"queries": [{"image": _read(root / image)} for image in rows["image"]], "camids": others}
        results = client.post(f"{SHOP}/search", json=body | {"top_k": FIRST}).raise_for_status().json()["results"]
        right += [
            pids[answer["id"]] == pid for pid, answers in zip(rows["pid"], results, strict=True) for answer in answers
        ]
    return sum(right) / len(right)


@contextmanager
def asking(client: httpx.Client, image: Path) -> Iterator[list[Answer]]:
    """Search one image again and again while the block runs, and yield the list of all answers."""
    answers: list[Answer] = []
    stop = threading.Event()

    def ask() -> None:
        body = {"queries": [{"image": _read(image)}], "top_k": 200}
        with httpx.Client(base_url=client.base_url, timeout=PATIENCE_S) as connection:
            while not stop.is_set():
                answer = connection.post(f"{SHOP}/search", json=body)
                content = answer.json()
                answers.append(Answer(answer.status_code, content.get("version"), len(content.get("results", [[]])[0])))
                stop.wait(0.2)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def _read(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
