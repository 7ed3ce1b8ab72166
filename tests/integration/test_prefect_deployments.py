"""Set up a real Prefect server as `make up` does, and run a deployment of it on a worker."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from mlflow import MlflowClient
from prefect import State
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from prefect.states import Scheduled

from infra.local import scheduling
from infra.local.environment import Environment
from infra.prefect.outdated import TAG
from tests.tracked_projects import REPOSITORY, write, write_pipeline

PATIENCE_S = 300  # seconds for a server or a flow on a busy machine
PREFECT = str(Path(sys.executable).with_name("prefect"))
WRITTEN = yaml.safe_load((REPOSITORY / "infra/prefect/prefect.yaml").read_text(encoding="utf-8"))["deployments"]
CURRENT = {
    "drift/daily",
    "adapt/by-hand",
    "fit_target/by-hand",
    "ingest/hourly",
    "retrain/weekly",
    "rollback/rollback",
    "stage/cpu",
    "stage/gpu",
}
# Flow, deployment, entrypoint and tags of deployments that a server may have from before.
OUTDATED = [
    ("watch", "daily", "flows/watch.py:watch", []),
    ("fit_deployment", "by-hand", "flows/fit_deployment.py:fit_deployment", []),
    ("retrain", "nightly", "flows/retrain.py:retrain", [TAG]),
]
PEOPLES_OWN = [
    ("watch", "nightly", "flows/watch.py:watch", []),
    ("count", "daily", "count.py:count", ["reports"]),
    ("retrain", "monthly", "flows/retrain.py:retrain", []),
]


class PrefectServer:
    """A Prefect server and the environment of commands that reach it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        self.environment = inherited | {"PREFECT_HOME": str(home), "PREFECT_API_URL": url}

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self.url)

    def run(self, *command: str, **variables: str) -> None:
        """Run a command in the repository."""
        process = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert process.returncode == 0, process.stdout + process.stderr

    def add_deployment(self, flow: str, name: str, entrypoint: str, tags: list[str]) -> UUID:
        with self.client() as client:
            flow_id = client.create_flow_from_name(flow)
            return client.create_deployment(flow_id, name, entrypoint=entrypoint, tags=tags)

    def deployments(self) -> set[str]:
        """Return the names of all deployments, with their flows."""
        with self.client() as client:
            flows = {flow.id: flow.name for flow in client.read_flows()}
            return {f"{flows[deployment.flow_id]}/{deployment.name}" for deployment in client.read_deployments()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a worker's clone: a small project with the flows."""
    folder = tmp_path_factory.mktemp("clone")
    write_pipeline(folder)
    (folder / "flows").symlink_to(REPOSITORY / "flows")
    write(folder / "infra/prefect/check_out.sh", "true\n")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """Start a Prefect server, which is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = PrefectServer(f"http://127.0.0.1:{port}/api", tmp_path_factory.mktemp("prefect"))
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, env=server.environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_server(server.url, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def set_up_server(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> PrefectServer:
    """Set the server up as `make up` does, after an earlier version of the project and people have used it."""
    for deployment in OUTDATED + PEOPLES_OWN:
        server.add_deployment(*deployment)
    (written, *_) = yaml.safe_load(scheduling.AUTOMATIONS.read_text(encoding="utf-8"))["automations"]
    with server.client() as client:
        for name, description in (("Take up retrainings", "automations.yaml, 0123456789ab"), ("Mail me", "my own")):
            automation = AutomationCore.model_validate({**written, "name": name, "description": description})
            client.create_automation(automation)
    environment = Environment({"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": "admin:unused"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduling, "LOCAL", tmp_path_factory.mktemp("local"))
        scheduling.set_up(environment)
    return server


def wait_for_server(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(f"no Prefect server at {url}")


def test_retraining_is_scheduled_weekly_and_spreads_its_stages(set_up_server: PrefectServer) -> None:
    with set_up_server.client() as client:
        deployment = client.read_deployment_by_name("retrain/weekly")
    (schedule,) = deployment.schedules
    assert (schedule.slug, schedule.active) == ("weekly", True)
    assert schedule.schedule.model_dump() == {"cron": "0 2 * * 1", "timezone": "Etc/UTC", "day_or": True}
    assert (deployment.work_pool_name, deployment.parameters) == ("flows", {"fan_out": True})
    assert deployment.tags == [TAG]
    assert deployment.pull_steps is not None
    steps = [step for pull in deployment.pull_steps for step in pull.items()]
    assert [name.rpartition(".")[2] for name, _ in steps] == ["run_shell_script", "set_working_directory"]
    assert {arguments["directory"] for _, arguments in steps} == {"{{ $QACONV_HOME }}"}


def test_every_deployment_of_the_file_has_the_tag_by_which_it_can_be_deleted() -> None:
    assert [entry["name"] for entry in WRITTEN if TAG not in entry["tags"]] == []


def test_set_up_deletes_the_projects_outdated_deployments_and_no_others(set_up_server: PrefectServer) -> None:
    assert set_up_server.deployments() == CURRENT | {f"{flow}/{name}" for flow, name, *_ in PEOPLES_OWN}


def test_set_up_deletes_the_projects_outdated_automations_and_no_others(set_up_server: PrefectServer) -> None:
    with set_up_server.client() as client:
        names = {automation.name for automation in client.read_automations()}
    assert names == {"Crash flow runs whose worker has died", "Restart retrainings whose worker has died", "Mail me"}


def test_the_command_deletes_an_outdated_deployment_with_its_scheduled_runs(set_up_server: PrefectServer) -> None:
    before = set_up_server.deployments()
    deployment = set_up_server.add_deployment(*OUTDATED[0])
    with set_up_server.client() as client:
        tomorrow: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
        run = client.create_flow_run_from_deployment(deployment, state=tomorrow)
    set_up_server.run(sys.executable, "-m", "infra.prefect.outdated")
    assert set_up_server.deployments() == before
    with set_up_server.client() as client:
        assert run.id not in {other.id for other in client.read_flow_runs()}


def test_a_worker_retrains_in_its_clone(set_up_server: PrefectServer, clone: Path) -> None:
    set_up_server.run(PREFECT, "deployment", "run", "retrain/weekly", "--param", "fan_out=false")
    set_up_server.run(PREFECT, "worker", "start", "--pool", "flows", "--run-once", QACONV_HOME=str(clone))
    with set_up_server.client() as client:
        states = [run.state_name for run in client.read_flow_runs() if run.start_time]
    assert states == ["Completed"]
    store = MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    assert "champion" in store.get_model_version("qaconv", "1").aliases
