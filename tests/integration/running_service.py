"""Run `qaconv serve` as a process, in a small project whose stages have run."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from qaconv.config import load_params
from qaconv.paths import ONNX
from tests.tracked_projects import retrain, set_encoder_digest, write, write_project

PATIENCE_S = 120  # seconds for an answer on a busy machine
MALL = "/v1/targets/mall"


def write_registered_project(folder: Path, change: Callable[[], None] = lambda: None) -> None:
    """Write a project with a champion into the working folder; its service looks for a new champion every 0.2 s.

    Args:
        folder: the working folder.
        change: changes the project before its champion is registered. Default: nothing.
    """
    write_project(folder)
    change()
    settings = yaml.safe_load((folder / "params.yaml").read_text())
    settings["serve"] |= {"poll_s": 0.2, "requests_per_minute": 1_000_000}
    write(folder / "params.yaml", yaml.safe_dump(settings))
    register_version()


def register_version(encoder: str = "encoder", mean_map: float = 0.5) -> None:
    """Register the exported graphs as a new champion, with a text in the encoder, for its digest, and a made-up mAP."""
    set_encoder_digest(ONNX, encoder)
    params = load_params()
    _, outcome = retrain(params, dict.fromkeys(params.targets, mean_map))
    assert outcome.promoted, outcome.reason


@contextmanager
def running(project: Path, *options: str, **variables: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """Yield a client of the service, and its process.

    Args:
        project: where it runs.
        options: of `qaconv serve`.
        variables: of its environment, in addition to those of this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "qaconv"), "serve", "--port", str(port), *options]
    with (
        (project / "service.log").open("a") as log,
        subprocess.Popen(
            command, cwd=project, stderr=log, env={**os.environ, "COLUMNS": "200", **variables}
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        try:
            _wait(client, process)
            yield client, process
        finally:
            process.terminate()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the service is not ready; its exit status is {process.poll()}")
