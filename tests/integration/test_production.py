"""The production loop on the real servers of `make up`, from nothing, with a small project."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import httpx
import mlflow
import psycopg2
import pytest
import yaml
from botocore.exceptions import ClientError
from dotenv import dotenv_values
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from tracked_projects import REPOSITORY

pytestmark = pytest.mark.production

PATIENCE_S = 1800  # for a run, on a busy machine
EXPERIMENTS = "/api/2.0/mlflow/experiments/search?max_results=1"
SMALL = {
    "sites": {
        "campus": {"seed": 1, "cameras": 3, "people": 24, "train_share": 0.7},
        "mall": {"seed": 3, "cameras": 3, "people": 12},
    },
    "datasets": {name: {"layout": "market1501", "path": f"data/raw/{name}"} for name in ("campus", "mall")},
    "deployments": ["campus", "mall"],
}
SMALL_TRAIN = {"identities_per_batch": 4, "images_per_identity": 2, "epochs": 2, "lr_drop_epoch": 2}


class Stack:
    """A clone of the project in which `make up` has been run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {name: value or "" for name, value in dotenv_values(folder / ".local/env").items()}

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self["PREFECT_API_URL"], auth_string=self["PREFECT_API_AUTH_STRING"])

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the project's folder, with .local/env and this project's code."""
        return run(self.folder, *command, check=check, **self.variables)

    def start(self, deployment: str, **parameters: Any) -> UUID:
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def state(self, flow_run: UUID) -> State:
        with self.client() as client:
            state = client.read_flow_run(flow_run).state
        assert state is not None
        return state

    def wait(self, flow_run: UUID) -> State:
        deadline = time.monotonic() + PATIENCE_S
        while not (state := self.state(flow_run)).is_final():
            assert time.monotonic() < deadline, state
            time.sleep(1)
        return state

    def stages_run(self, flow_run: UUID) -> list[str]:
        """Names of the stages that a retraining has given to workers."""
        with self.client() as client:
            runs = client.read_flow_runs()
        started = self.started(flow_run)
        return sorted(run.name for run in runs if run.name != "" and run.created >= started and "@" in run.name)

    def started(self, flow_run: UUID) -> Any:
        with self.client() as client:
            return client.read_flow_run(flow_run).created


def run(folder: Path, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(folder), **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=check)


def free_ports(count: int) -> list[int]:
    """Ports of which the ten thousandth above is free too, as SeaweedFS needs it."""
    found: list[int] = []
    for port in range(18000, 22000):
        try:
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10000))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("too few ports are free")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Everything that `make up` starts, stopped at the end."""
    home = Path(tempfile.mkdtemp(prefix="qaconv-production-"))
    home.chmod(0o711)  # PostgreSQL's own user goes through; pytest lets nobody into its folders
    folder = home / "project"
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    settings = {**settings, **SMALL, "train": settings["train"] | SMALL_TRAIN}
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "dvc.lock").unlink()
    commit(folder, "A small project")
    run(folder, "python", "-c", "from infra.local.environment import Environment; Environment.load_or_create()")
    env = folder / ".local/env"
    lines = env.read_text(encoding="utf-8").splitlines()
    names = [line.split("=")[0] for line in lines if line.partition("=")[0].endswith("_PORT")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    lines = [f"{name}={ports[name]}" if (name := line.split("=")[0]) in ports else line for line in lines]
    env.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        up = run(folder, "python", "-m", "infra.local", "up", check=False)
        assert up.returncode == 0, up.stdout + up.stderr
        yield Stack(folder)
    finally:
        run(folder, "python", "-m", "infra.local", "down", check=False)
        shutil.rmtree(home, ignore_errors=True)


def commit(folder: Path, subject: str) -> None:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *author, "commit", "--quiet", "--all", "--message", subject], cwd=folder, check=True)


@pytest.fixture
def registry(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    for name, value in stack.variables.items():
        if name.startswith(("MLFLOW_TRACKING", "AWS_")):
            monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(stack["MLFLOW_TRACKING_URI"])
    return MlflowClient()


def aliases(registry: MlflowClient) -> Mapping[str, str]:
    return {alias: str(version) for alias, version in registry.get_registered_model("qaconv").aliases.items()}


def test_starting_again_changes_nothing_and_everything_is_on_this_machine_alone(stack: Stack) -> None:
    before = (stack.folder / ".local/env").read_bytes()
    again = stack.run("python", "-m", "infra.local", "up")
    assert (stack.folder / ".local/env").read_bytes() == before
    assert "worker-gpu" in again.stdout
    assert stack.run("python", "-m", "infra.local", "status").returncode == 0
    assert (stack.folder / ".local/env").stat().st_mode & 0o077 == 0
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    ours = [value for name, value in stack.variables.items() if name.endswith("_PORT")]
    doors = [line.split()[3] for line in listening.splitlines()]
    assert {door for door in doors if door.rpartition(":")[2] in ours} == {f"127.0.0.1:{port}" for port in ours}


def test_each_server_refuses_wrong_credentials(stack: Stack) -> None:
    for url, right in (
        (f"{stack['PREFECT_API_URL']}/version", stack["PREFECT_API_AUTH_STRING"].split(":")[1]),
        (
            f"{stack['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1",
            stack["MLFLOW_TRACKING_PASSWORD"],
        ),
        (f"http://127.0.0.1:{stack['SUPERVISOR_PORT']}/", stack["SUPERVISOR_PASSWORD"]),
    ):
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("admin", "wrong")).status_code == 401
        assert httpx.get(url, auth=("admin", right)).status_code == 200
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        boto3.client(
            "s3",
            endpoint_url=stack["AWS_ENDPOINT_URL"],
            aws_access_key_id=stack["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key="wrong",
            region_name=stack["AWS_DEFAULT_REGION"],
        ).list_objects_v2(Bucket="mlflow")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=stack["POSTGRES_PORT"], user="postgres", password="wrong")


def test_a_retraining_on_workers_makes_a_champion(stack: Stack, registry: MlflowClient) -> None:
    flow_run = stack.start("retrain/weekly")
    state = stack.wait(flow_run)
    assert state.is_completed(), state.message
    assert {"train@qaconv", "train@baseline", "evaluate@campus", "evaluate@mall"} <= set(stack.stages_run(flow_run))
    assert aliases(registry) == {"challenger": "1", "champion": "1"}


def test_a_second_retraining_gives_nothing_to_workers_and_registers_nothing(
    stack: Stack, registry: MlflowClient
) -> None:
    flow_run = stack.start("retrain/weekly")
    assert stack.wait(flow_run).is_completed()
    assert stack.stages_run(flow_run) == []
    assert aliases(registry) == {"challenger": "1", "champion": "1"}


def test_the_champion_can_be_made_again_with_equal_digests(stack: Stack) -> None:
    made = stack.run("qaconv", "reproduce", "models:/qaconv@champion", check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "qaconv version 1: 0 of" in made.stdout


def test_a_challenger_that_loses_is_refused_with_its_reason(stack: Stack, registry: MlflowClient) -> None:
    flow_run = stack.start("retrain/weekly", changes={"train.epochs": 1, "train.lr_drop_epoch": 1, "train.lr": 1e-8})
    assert stack.wait(flow_run).is_completed()
    assert aliases(registry) == {"challenger": "2", "champion": "1"}
    tags = registry.get_model_version("qaconv", "2").tags
    assert tags["gate"] == "refused"
    assert "a gain whose lower end is at least 0 is asked for" in tags["promotion"]
