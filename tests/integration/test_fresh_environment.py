import json
import os
import socket
import subprocess
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.tracked_projects import retrain, write_project
from tests.working_folder import working_in

PREDICT = """
import json, sys
import mlflow
for package in ("torch", "qaconv"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{package} is there, so this proves nothing")
model = mlflow.pyfunc.load_model(sys.argv[1])
ranked = model.predict(model.input_example, params={"target": "", "top_k": 2})
assert "torch" not in sys.modules
print(json.dumps(ranked[["query", "gallery", "rank", "match"]].values.tolist()))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Register a champion, and return its folder."""
    project = tmp_path_factory.mktemp("project")
    with working_in(project):
        retrain(write_project(project))
        yield Path(mlflow.artifacts.download_artifacts("models:/qaconv@champion"))


@pytest.fixture(scope="module")
def python(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment with the model's requirements and nothing else."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=True)
    requirements = str(model / "requirements.txt")
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--requirement", requirements]
    subprocess.run(install, check=True)
    return folder / "bin/python"


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW", "VIRTUAL"))}


def test_the_model_ranks_in_an_environment_with_only_its_own_requirements(
    model: Path, python: Path, tmp_path: Path
) -> None:
    process = subprocess.run(
        [python, "-c", PREDICT, model],
        cwd=tmp_path,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    ranked = json.loads(process.stdout.splitlines()[-1])
    assert [row[:3] for row in ranked] == [["asked", "same", 1], ["asked", "other", 2]]


def test_mlflow_models_serve_answers_the_example(model: Path, python: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [str(python.parent / "mlflow"), "models", "serve", "-m", str(model), "-p", str(port)]
    environment = {**bare_environment(), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [*command, "--env-manager", "local"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/ping", server)
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                (model / "serving_input_example.json").read_bytes(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as response:
                rows = json.loads(response.read())["predictions"]
        finally:
            server.terminate()
    assert [(row["gallery"], row["rank"]) for row in rows] == [("same", 1), ("other", 2)]
    assert set(rows[0]["correspondences"][0]) == {"query", "gallery", "cosine", "share", "asked_by"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_it_answers(address: str, server: subprocess.Popen[bytes], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{address} does not answer; the server's code is {server.poll()}")
