"""Run `make up` in a clone of the project with a small camera network."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import boto3
import mlflow
import pandas as pd
import psutil
import pytest
import yaml
from dotenv import dotenv_values
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State

from tests.tracked_projects import REPOSITORY

T = TypeVar("T")
PATIENCE_S = 1800  # seconds for a flow run on a busy machine
PORTS = range(23000, 27000)
SMALL = {
    "sites": {"campus": {"seed": 1, "cameras": 3, "people": 24, "train_share": 0.7}},
    "datasets": {
        "campus": {"layout": "market1501", "path": "data/raw/campus"},
        "shop": {"layout": "table", "path": "data/raw/shop/sightings.csv"},
    },
    "targets": ["campus", "shop"],
    "adapt": {"targets": []},
}
IMAGE = {"height": 48, "width": 24}
TRAIN = {"identities_per_batch": 4, "images_per_identity": 2, "epochs": 2, "lr_drop_epoch": 2}
STATES = ["Scheduled", "Pending", "Running", "Completed"]  # the states of a successful run, in order
WEAK = {"neck_channels": 2}  # a first champion that a later one can beat


class Stack:
    """The servers of one project folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.variables = {name: value or "" for name, value in dotenv_values(folder / ".local/env").items()}
        address = f"admin:{self['SUPERVISOR_PASSWORD']}@127.0.0.1:{self['SUPERVISOR_PORT']}"
        self.supervisor: Any = xmlrpc.client.ServerProxy(f"http://{address}/RPC2").supervisor

    def __getitem__(self, name: str) -> str:
        return self.variables[name]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's folder, with the variables of .local/env and the project's code."""
        return run(self.folder, *command, check=check, **self.variables)

    def s3(self, secret: str = "") -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self["AWS_ENDPOINT_URL"],
            aws_access_key_id=self["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=secret or self["AWS_SECRET_ACCESS_KEY"],
            region_name=self["AWS_DEFAULT_REGION"],
        )

    def prefect(self) -> SyncPrefectClient:
        return SyncPrefectClient(self["PREFECT_API_URL"], auth_string=self["PREFECT_API_AUTH_STRING"])

    def registry(self, patch: pytest.MonkeyPatch) -> MlflowClient:
        """Return a client of the model registry, and let this process use its store."""
        for name, value in self.variables.items():
            if name.startswith(("MLFLOW_TRACKING", "AWS_")):
                patch.setenv(name, value)
        mlflow.set_tracking_uri(self["MLFLOW_TRACKING_URI"])
        return MlflowClient()

    def start(self, deployment: str, **parameters: Any) -> UUID:
        with self.prefect() as client:
            deployment_id = client.read_deployment_by_name(deployment).id
            return client.create_flow_run_from_deployment(deployment_id, parameters=parameters).id

    def finish(self, flow_run: UUID) -> State:
        """Wait for a run to end, and return its state."""

        def final() -> State | None:
            with self.prefect() as client:
                state = client.read_flow_run(flow_run).state
            return state if state and state.is_final() else None

        return wait_for(final)

    def complete(self, deployment: str, **parameters: Any) -> UUID:
        """Run a deployment of Prefect, which must complete."""
        flow_run = self.start(deployment, **parameters)
        state = self.finish(flow_run)
        assert state.is_completed(), f"{deployment}: {state}"
        return flow_run

    def started_by(self, flow_run: UUID, deployment: str) -> UUID:
        """Wait for a run of a deployment that was created after another run, and return it."""

        def find() -> UUID | None:
            with self.prefect() as client:
                began = client.read_flow_run(flow_run).created
                named = client.read_deployment_by_name(deployment).id
                runs = [run for run in client.read_flow_runs() if run.deployment_id == named]
            return next((run.id for run in runs if began and run.created and run.created > began), None)

        return wait_for(find)

    def upload(self, batch: str, rows: pd.DataFrame, root: Path) -> None:
        """Upload a batch of the shop: images, then the table that names them."""
        s3 = self.s3()
        for image in rows["image"]:
            s3.upload_file(str(root / image), "incoming", f"shop/{batch}/{image}")
        table = rows[["image", "pid", "camid", "time_s", "split"]].to_csv(index=False)
        s3.put_object(Bucket="incoming", Key=f"shop/{batch}/sightings.csv", Body=table.encode())

    def stage_runs(self, since: UUID) -> list[FlowRun]:
        """Return the runs of stages that were created after a run."""
        with self.prefect() as client:
            created = client.read_flow_run(since).created
            runs = client.read_flow_runs()
        assert created is not None
        return [run for run in runs if run.created and run.created > created and run.parameters.get("stages")]

    def wait_for_stage(self, since: UUID, name: str, state: str) -> None:
        """Wait until the stage's run is in a state, or in a later one."""
        later = STATES[STATES.index(state) :]
        wait_for(
            lambda: [run for run in self.stage_runs(since) if run.name == name and run.state_name in later] or None
        )

    def take_down(self, server: str, seconds: float) -> None:
        """Stop a server for some seconds, and wait until it listens again."""
        self.supervisor.stopProcess(server)
        time.sleep(seconds)
        self.supervisor.startProcess(server)

        def listens() -> bool | None:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", int(self[f"{server.upper()}_PORT"]))) == 0 or None

        wait_for(listens)

    def kill_tree(self, program: str) -> None:
        """Kill a program and its children at once, as if the machine had died; supervisord restarts the program."""
        parent = psutil.Process(self.supervisor.getProcessInfo(program)["pid"])
        for process in [parent, *parent.children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)


def aliases(registry: MlflowClient) -> Mapping[str, str]:
    return {alias: str(version) for alias, version in registry.get_registered_model("qaconv").aliases.items()}


def run(folder: Path, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(folder), **variables}
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or process.returncode == 0, process.stdout + process.stderr
    return process


def make(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command behind `make up` and similar, with this environment's Python."""
    return run(folder, "python", "-m", "infra.local", command, *arguments, check=False)


def wait_for(find: Callable[[], T | None], every_s: float = 1.0) -> T:
    """Call `find` until it returns something, and return that."""
    deadline = time.monotonic() + PATIENCE_S
    while (value := find()) is None:
        assert time.monotonic() < deadline, find
        time.sleep(every_s)
    return value


@contextmanager
def started_stack(
    change: Callable[[dict[str, Any]], object] = lambda settings: None, **variables: str
) -> Iterator[Stack]:
    """Start everything that `make up` starts, and stop it at the end.

    Args:
        change: changes the settings of the small project. Default: nothing.
        variables: further lines of .local/env.
    """
    home = Path(tempfile.mkdtemp(prefix="qaconv-production-"))
    home.chmod(0o711)  # PostgreSQL's user must enter it; pytest's folders are closed to other users
    folder = home / "project"
    try:
        write_small_project(folder, change, **variables)
        up = make(folder, "up")
        assert up.returncode == 0, up.stdout + up.stderr
        yield Stack(folder)
    finally:
        make(folder, "down")
        shutil.rmtree(home, ignore_errors=True)


def write_small_project(folder: Path, change: Callable[[dict[str, Any]], object], **variables: str) -> None:
    """Clone this repository with a small camera network, and write free ports and further variables to .local/env."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")) | SMALL
    for method in settings["methods"].values():
        method["image"] = IMAGE
        method["train"] |= TRAIN
        method["backbone"] |= WEAK
    settings["evaluate"]["parts"] = 2
    settings["machine"]["blocks"] = str(folder / ".local/blocks")
    settings["gate"]["max_calibration_error"] = 0.3  # measured on one or two held-out people
    settings["gate"]["min_match_precision"] = 0.0  # on few people
    settings["machine"]["checkpoint_every_steps"] = 1
    settings["drift"]["fewest"] = 10
    change(settings)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "dvc.lock").unlink()
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(
        ["git", *author, "commit", "--quiet", "--all", "--message", "A small project"], cwd=folder, check=True
    )
    run(folder, "python", "-c", "from infra.local.environment import Environment; Environment.load_or_create()")
    env = folder / ".local/env"
    lines = env.read_text(encoding="utf-8").splitlines()
    names = [line.split("=")[0] for line in lines if line.partition("=")[0].endswith("_PORT")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    lines = [f"{name}={ports[name]}" if (name := line.split("=")[0]) in ports else line for line in lines]
    lines += [f"{name}={value}" for name, value in variables.items()]
    env.write_text("\n".join(lines) + "\n", encoding="utf-8")


def free_ports(count: int) -> list[int]:
    """Return free ports whose number plus 10000 is free too, as SeaweedFS needs both."""
    ports: list[int] = []
    for port in PORTS:
        try:
            with socket.socket() as first, socket.socket() as second:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10000))
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError("too few ports are free")
