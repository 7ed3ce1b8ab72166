"""A clone of the project, with a small camera network, in which `make up` has been run."""

import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import boto3
import psutil
import yaml
from dotenv import dotenv_values
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State

from tests.tracked_projects import REPOSITORY

T = TypeVar("T")
PATIENCE_S = 1800  # for a run, on a busy machine
PORTS = range(23000, 27000)
SMALL = {
    "sites": {"campus": {"seed": 1, "cameras": 3, "people": 24, "train_share": 0.7}},
    "datasets": {
        "campus": {"layout": "market1501", "path": "data/raw/campus"},
        "shop": {"layout": "table", "path": "data/raw/shop/sightings.csv"},
    },
    "targets": ["campus", "shop"],
    "image": {"height": 48, "width": 24},
}
TRAIN = {"identities_per_batch": 4, "images_per_identity": 2, "epochs": 2, "lr_drop_epoch": 2}
STATES = ["Scheduled", "Pending", "Running", "Completed"]  # of a run that goes well, in this order
WEAK = {"neck_channels": 2}  # maps of two channels say little, and so the first champion can be beaten


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
        """A command in the project's folder, with .local/env and this project's code."""
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

    def start(self, deployment: str, **parameters: Any) -> UUID:
        with self.prefect() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def finish(self, flow_run: UUID) -> State:
        """The state that a run ends in."""

        def final() -> State | None:
            with self.prefect() as client:
                state = client.read_flow_run(flow_run).state
            return state if state and state.is_final() else None

        return wait_for(final)

    def complete(self, deployment: str, **parameters: Any) -> UUID:
        """Runs a deployment of Prefect to its end, which is a good one."""
        flow_run = self.start(deployment, **parameters)
        state = self.finish(flow_run)
        assert state.is_completed(), f"{deployment}: {state}"
        return flow_run

    def stage_runs(self, since: UUID) -> list[FlowRun]:
        """Those that were given to workers since a run was created."""
        with self.prefect() as client:
            created = client.read_flow_run(since).created
            runs = client.read_flow_runs()
        assert created is not None
        return [each for each in runs if each.created and each.created > created and each.parameters.get("stages")]

    def wait_for_stage(self, since: UUID, name: str, state: str) -> None:
        """Until the stage's run is in a state, or in one after it."""
        later = STATES[STATES.index(state) :]
        wait_for(
            lambda: [run for run in self.stage_runs(since) if run.name == name and run.state_name in later] or None
        )

    def take_away(self, server: str, seconds: float) -> None:
        """A server is stopped for some seconds; it is back, and listens, when this ends."""
        self.supervisor.stopProcess(server)
        time.sleep(seconds)
        self.supervisor.startProcess(server)

        def listens() -> bool | None:
            with socket.socket() as door:
                return door.connect_ex(("127.0.0.1", int(self[f"{server.upper()}_PORT"]))) == 0 or None

        wait_for(listens)

    def kill_tree(self, program: str) -> None:
        """As if the machine had died: the program and all below it, at once; supervisord starts the program again."""
        parent = psutil.Process(self.supervisor.getProcessInfo(program)["pid"])
        for process in [parent, *parent.children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)


def run(folder: Path, *command: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**inherited, "PATH": path, "PYTHONPATH": str(folder), **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def make(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make up` and the like, with this environment's Python."""
    return run(folder, "python", "-m", "infra.local", command, *arguments, check=False)


def wait_for(find: Callable[[], T | None], every_s: float = 1.0) -> T:
    """What `find` gives once it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := find()) is None:
        assert time.monotonic() < deadline, find
        time.sleep(every_s)
    return found


def write_small_project(folder: Path, **variables: str) -> None:
    """Clones this repository, makes its camera network small, and gives .local/env free ports and further variables."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8")) | SMALL
    settings["train"] |= TRAIN
    settings["backbone"] |= WEAK
    settings["evaluate"]["parts"] = [1, 2]
    settings["gate"]["max_calibration_error"] = 0.3  # the people who are held out are one or two, and tell little
    settings["machine"]["checkpoint_every_steps"] = 1
    settings["drift"]["fewest"] = 10
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
    ports = dict(zip(names, _free_ports(len(names)), strict=True))
    lines = [f"{name}={ports[name]}" if (name := line.split("=")[0]) in ports else line for line in lines]
    lines += [f"{name}={value}" for name, value in variables.items()]
    env.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    """Ports of which the ten thousandth above is free too, as SeaweedFS needs it."""
    found: list[int] = []
    for port in PORTS:
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
