"""Kill ingest while batches arrive, and take its S3 away.

A batch that has left the bucket must be in the origin's dataset once, with its bytes in DVC's remote, and what was
rejected must be in quarantine.
"""

import csv
import io
import json
import random
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import yaml

from flows.ingest import ingest
from flows.ingest_bucket import INCOMING, QUARANTINE, REPORT
from qaconv.data.ingest_dataset import TABLE
from tests.ingest_projects import write_ingest_project
from tests.integration.running_servers import Server
from tests.small_service import crop
from tests.torture import children
from tests.torture.outcomes import Outcomes
from tests.tracked_projects import REPOSITORY

STORE = "dvc"  # bucket of DVC's remote
DATASET = "data/raw/shop"
BAD = "bad.png"
AWAY_S = (1.0, 8.0)


@dataclass(frozen=True)
class Upload:
    """A batch.

    Attributes:
        seeds: of its images; an image is made of its seed.
        bad: whether it also has a file that is no image.
    """

    seeds: tuple[int, ...]
    bad: bool

    def files(self) -> dict[str, bytes]:
        """Return its files by name."""
        rows = [f"{seed}.png,{seed},0,{seed}.5,gallery\n" for seed in self.seeds]
        rows += [f"{BAD},1,0,1.5,gallery\n"] if self.bad else []
        table = "image,pid,camid,time_s,split\n" + "".join(rows)
        files = {f"{seed}.png": crop(seed) for seed in self.seeds}
        return {**files, **({BAD: b"no image"} if self.bad else {}), TABLE: table.encode()}


class Ingest:
    """A project whose dataset grows.

    Args:
        folder: its origin and clone are made here.
        s3: the server of the buckets.
        outcomes: counts of the run.
    """

    def __init__(self, folder: Path, s3: Server, outcomes: Outcomes) -> None:
        self._clone = write_ingest_project(folder, f"s3://{STORE}")
        self._origin = folder / "origin"
        self._server = s3
        self._s3: Any = boto3.client("s3")
        self._outcomes = outcomes
        self._uploads: dict[str, Upload] = {}
        self._seeds = 0
        self._compared: set[str] = set()  # batches whose bytes have been read in the remote
        self._lasts_s = 30.0

    def kill(self, draws: random.Random) -> None:
        """Kill ingest while batches arrive; sometimes let the next one complete."""
        with ThreadPoolExecutor() as pool:
            arriving = pool.submit(self._upload, random.Random(draws.random()))
            child = children.start(ingest_once, self._clone)
            children.kill_within(child, self._lasts_s, draws)
            self._outcomes.counts["kills of ingest"] += 1
            arriving.result()
        self._check()
        if draws.random() < 0.3:
            self.complete()

    def lose_server(self, draws: random.Random) -> None:
        """Stop S3 for some seconds while ingest runs; the next ingest must complete."""
        self._upload(draws)
        child = children.start(ingest_once, self._clone)
        child.join(draws.uniform(0, self._lasts_s))
        self._server.stop()
        time.sleep(draws.uniform(*AWAY_S))
        self._server.start()
        succeeded = children.finish(child)
        self._outcomes.counts["ingests that waited for S3" if succeeded else "ingests that S3's outage ended"] += 1
        self._check()
        self.complete()

    def complete(self) -> None:
        """Run ingest to its end, after which no batch may be left."""
        begun = time.monotonic()
        if not children.finish(children.start(ingest_once, self._clone)):
            self._outcomes.fault("not completed", f"an ingest; see {self._clone / children.LOG}")
        self._lasts_s = time.monotonic() - begun
        if waiting := self._check():
            self._outcomes.fault("not completed", f"ingest leaves {sorted(waiting)}")

    def _upload(self, draws: random.Random) -> None:
        for _ in range(draws.randint(1, 3)):
            first = self._seeds + 1
            self._seeds += draws.randint(1, 4)
            seeds = list(range(first, self._seeds + 1))
            if first > 1 and draws.random() < 0.3:
                seeds.append(draws.randrange(1, first))
            upload = Upload(tuple(seeds), draws.random() < 0.4)
            name = f"b{len(self._uploads)}"
            self._uploads[name] = upload
            files = list(upload.files().items())
            draws.shuffle(files)
            for file, content in files:
                self._s3.put_object(Bucket=INCOMING, Key=f"shop/{name}/{file}", Body=content)
            self._outcomes.counts["batches uploaded"] += 1
            time.sleep(draws.uniform(0, 2))

    def _check(self) -> set[str]:
        """Compare the batches that have left the bucket with dataset and quarantine; return those that have not."""
        waiting = {name for name in self._uploads if f"shop/{name}/{TABLE}" in self._keys(INCOMING)}
        quarantined = self._keys(QUARANTINE)
        files, images = self._read_dataset()
        remote = self._keys(STORE)
        for image, count in images.items():
            if count > 1:
                self._outcomes.fault("doubled", f"{image}, {count} times")
            if image not in files or _remote_key(files[image]) not in remote:
                self._outcomes.fault("lost", f"{image}, which the dataset's table names")
        for name in sorted(self._uploads.keys() - waiting):
            upload = self._uploads[name]
            for seed in upload.seeds:
                image = f"images/{sha256(crop(seed)).hexdigest()}.png"
                if image not in images:
                    self._outcomes.fault("lost", f"image {seed} of {name}")
                elif name not in self._compared and self._get(STORE, _remote_key(files[image])) != crop(seed):
                    self._outcomes.fault("lost", f"bytes of image {seed} of {name}")
            if upload.bad and not {f"shop/{name}/{file}" for file in (BAD, REPORT, TABLE)} <= quarantined:
                self._outcomes.fault("lost", f"{BAD} of {name}")
            if any(key.startswith(f"shop/{name}.") for key in quarantined):
                self._outcomes.fault("doubled", f"quarantine of {name}")
            self._compared.add(name)
        self._outcomes.counts["batches ingested"] = len(self._compared)
        self._outcomes.counts["images in the dataset"] = len(images)
        return waiting

    def _read_dataset(self) -> tuple[dict[str, str], Counter[str]]:
        """Return the md5 of each file of the origin's dataset, and how often its table names each image."""
        command = ["git", "show", f"HEAD:{DATASET}.dvc"]
        shown = subprocess.run(command, cwd=self._origin, capture_output=True, text=True, check=False)
        if shown.returncode:  # no batch has been accepted yet
            return {}, Counter()
        (out,) = yaml.safe_load(shown.stdout)["outs"]
        entries = json.loads(self._get(STORE, _remote_key(out["md5"])))
        files = {entry["relpath"]: entry["md5"] for entry in entries}
        table = self._get(STORE, _remote_key(files[TABLE])).decode()
        return files, Counter(row["image"] for row in csv.DictReader(io.StringIO(table)))

    def _keys(self, bucket: str) -> set[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", ())}

    def _get(self, bucket: str, key: str) -> bytes:
        return bytes(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def ingest_once() -> None:
    """Do what a worker does each hour, in its clone."""
    subprocess.run(["sh", str(REPOSITORY / "infra/prefect/check_out.sh")], check=True)
    ingest()


def _remote_key(md5: str) -> str:
    return f"files/md5/{md5[:2]}/{md5[2:]}"
