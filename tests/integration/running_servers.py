"""Start, stop and start again the servers that a project depends on: SeaweedFS for S3, and MLflow."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flows.ingest_bucket import INCOMING, QUARANTINE
from tests.integration.running_stack import free_ports
from tests.tracked_projects import copy_store

STARTS_S = 120  # on a busy machine
NOT_YET = (AssertionError, httpx.HTTPError, BotoCoreError, ClientError)
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1})


class Server:
    """A server's processes, which stop together.

    Args:
        command: its command line.
        folder: its working folder, in which it logs to `log`.
        ask: call that raises one of NOT_YET until the server answers.
    """

    def __init__(self, command: Sequence[str], folder: Path, ask: Callable[[], object]) -> None:
        self._command = command
        self._folder = folder
        self._ask = ask

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + STARTS_S
        while True:
            try:
                self._ask()
                return
            except NOT_YET:
                assert time.monotonic() < until and self._process.poll() is None, self._command
                time.sleep(0.2)

    def stop(self) -> None:
        """End the server and its children."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()


def seaweed(folder: Path, patch: pytest.MonkeyPatch, *more_buckets: str) -> Server:
    """Return SeaweedFS with the buckets of ingest, and point the AWS variables to it."""
    master, volume, filer, port = free_ports(4)
    command = [
        "weed", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
        "-master.volumeSizeLimitMB=64", "-volume.max=0", "-s3", f"-s3.port={port}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    for name, value in {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "DEFAULT_REGION": "us-east-1"}.items():
        patch.setenv(f"AWS_{name}", value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "any")
    client: Any = boto3.client("s3", config=ONE_ATTEMPT)

    def put() -> None:
        present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in {INCOMING, QUARANTINE, *more_buckets} - present:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=INCOMING, Key="shop/a/", Body=b"")

    return Server(command, folder, put)


def mlflow_server(folder: Path, patch: pytest.MonkeyPatch) -> Server:
    """Return an MLflow server with an empty store in `folder`, and point MLFLOW_TRACKING_URI to it."""
    copy_store(folder)
    (port,) = free_ports(1)
    command = [
        str(Path(sys.executable).parent / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/mlartifacts",
    ]  # fmt: skip
    patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    return Server(command, folder, lambda: httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status())
