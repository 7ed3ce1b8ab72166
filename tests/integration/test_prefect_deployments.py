"""infra/prefect/prefect.yaml on a real server: deployed, scheduled, and run by a worker."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient

from tests.tracked_projects import REPOSITORY, write, write_pipeline

PATIENCE_S = 120  # for a server or a flow on a busy machine

Prefect = Callable[..., str]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a worker works in: a small project with the flows."""
    folder = tmp_path_factory.mktemp("clone")
    write_pipeline(folder)
    (folder / "flows").symlink_to(REPOSITORY / "flows")
    write(folder / "infra/prefect/check_out.sh", "true\n")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of commands that reach a Prefect server, which is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    variables = inherited | {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = [command_path("prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        command, env=variables, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_server(variables["PREFECT_API_URL"], server)
        yield variables
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def deployed(environment: dict[str, str]) -> Prefect:
    """The commands that prefect.yaml names have been run; gives a function to run more of them."""

    def prefect(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [command_path("prefect"), "--no-prompt", *arguments],
            cwd=REPOSITORY,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for pool in ("flows", "cpu", "gpu"):
        prefect("work-pool", "create", pool, "--type", "process")
    prefect("deploy", "--all", "--prefect-file", "infra/prefect/prefect.yaml")
    return prefect


def command_path(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def wait_for_server(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise TimeoutError(f"no Prefect server at {url}")


def test_retraining_is_scheduled_weekly_and_spreads_its_stages(environment: dict[str, str], deployed: Prefect) -> None:
    with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
        deployment = client.read_deployment_by_name("retrain/weekly")
    (schedule,) = deployment.schedules
    assert (schedule.slug, schedule.active) == ("weekly", True)
    assert schedule.schedule.model_dump() == {"cron": "0 2 * * 1", "timezone": "Etc/UTC", "day_or": True}
    assert (deployment.work_pool_name, deployment.parameters) == ("flows", {"fan_out": True})
    assert deployment.pull_steps is not None
    steps = [step for pull in deployment.pull_steps for step in pull.items()]
    assert [name.rpartition(".")[2] for name, _ in steps] == ["run_shell_script", "set_working_directory"]
    assert {arguments["directory"] for _, arguments in steps} == {"{{ $QACONV_HOME }}"}


def test_a_worker_retrains_in_its_clone(environment: dict[str, str], deployed: Prefect, clone: Path) -> None:
    deployed("deployment", "run", "retrain/weekly", "--param", "fan_out=false")
    deployed("worker", "start", "--pool", "flows", "--run-once", QACONV_HOME=str(clone))
    with SyncPrefectClient(environment["PREFECT_API_URL"]) as client:
        states = [run.state_name for run in client.read_flow_runs() if run.start_time]
    assert states == ["Completed"]
    store = MlflowClient(f"sqlite:///{clone / 'mlflow.db'}")
    assert "champion" in store.get_model_version("qaconv", "1").aliases
