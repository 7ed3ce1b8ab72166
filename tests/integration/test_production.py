"""Run the production loop on the real servers of `make up`, from nothing; each test continues the one before."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import mlflow
import psycopg2
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from PIL import Image

from qaconv.config import SiteConfig
from qaconv.data.layouts import market1501
from qaconv.data.manifest import Manifest
from qaconv.runtime.decode import ALLOWED_FORMATS
from qaconv.synthetic.render import render_site
from tests.integration.running_stack import Stack, aliases, make, started_stack, wait_for

pytestmark = pytest.mark.production

BETTER = {"methods.qaconv.backbone.neck_channels": 32}  # changes that make a challenger better than the first champion
DOWN_S = 15.0  # seconds that a server is down


class Webhook(HTTPServer):
    """Receive notifications and keep them in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.messages: list[dict[str, str]] = []


class Receiver(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def notifications(webhook: Webhook) -> list[dict[str, str]]:
    """Return the notifications that the webhook has received."""
    return webhook.messages


@pytest.fixture(scope="module")
def stack(webhook: Webhook) -> Iterator[Stack]:
    """Start everything that `make up` starts, and stop it at the end."""
    with started_stack(QACONV_WEBHOOK_URL=f"http://127.0.0.1:{webhook.server_port}") as started:
        yield started


@pytest.fixture(scope="module")
def sightings(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Render the sightings of a shop with three cameras, for two uploads."""
    folder = tmp_path_factory.mktemp("shop")
    render_site(SiteConfig(seed=3, cameras=3, people=16), folder, processes=1)
    return market1501.read(folder, "shop")


@pytest.fixture
def registry(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    return stack.registry(monkeypatch)


def versions(registry: MlflowClient) -> dict[str, int]:
    """Return the number of versions of each registered model."""
    return {
        model.name: len(registry.search_model_versions(f"name = '{model.name}'"))
        for model in registry.search_registered_models()
    }


def keys(stack: Stack, bucket: str) -> list[str]:
    return [entry["Key"] for entry in stack.s3().list_objects_v2(Bucket=bucket).get("Contents", ())]


def head(stack: Stack) -> str:
    return stack.run("git", "rev-parse", "HEAD").stdout.strip()


def test_starting_again_changes_nothing_and_servers_listen_on_this_machine_alone(stack: Stack) -> None:
    before = (stack.folder / ".local/env").read_bytes()
    again = make(stack.folder, "up")
    assert again.returncode == 0 and "worker-gpu" in again.stdout
    assert (stack.folder / ".local/env").read_bytes() == before
    assert make(stack.folder, "status").returncode == 0
    assert (stack.folder / ".local/env").stat().st_mode & 0o077 == 0
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    ours = [value for name, value in stack.variables.items() if name.endswith("_PORT")]
    addresses = [line.split()[3] for line in listening.splitlines()]
    assert {address for address in addresses if address.rpartition(":")[2] in ours} == {
        f"127.0.0.1:{port}" for port in ours
    }


def test_schedules_plan_their_runs(stack: Stack) -> None:
    def planned() -> set[str] | None:
        with stack.prefect() as client:
            scheduled = {item.name: item.id for item in client.read_deployments() if item.schedules}
            runs = {run.deployment_id for run in client.read_flow_runs() if run.state and run.state.is_scheduled()}
        return set(scheduled) if runs >= set(scheduled.values()) else None

    assert wait_for(planned) == {"weekly", "hourly", "daily"}
    with stack.prefect() as client:  # from now on only tests start runs
        for deployment in client.read_deployments():
            for schedule in deployment.schedules:
                client.update_deployment_schedule(deployment.id, schedule.id, active=False)


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
        stack.s3("wrong").list_objects_v2(Bucket="mlflow")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=stack["POSTGRES_PORT"], user="postgres", password="wrong")


def test_new_sightings_are_versioned_and_a_broken_image_is_quarantined(
    stack: Stack, sightings: Manifest, notifications: list[dict[str, str]]
) -> None:
    first = sightings.frame[sightings.frame["pid"] <= 8]
    (sightings.root / first["image"].iloc[-1]).write_bytes(b"no image")
    before = head(stack)
    stack.upload("monday", first, sightings.root)
    stack.complete("ingest/hourly")
    after = head(stack)
    assert after != before
    assert stack.run("git", "show", "--format=%s", "--name-only").stdout.split("\n\n") == [
        "Ingest shop/monday",
        "data/raw/shop.dvc\n",
    ]
    assert keys(stack, "incoming") == []
    assert f"shop/monday/{first['image'].iloc[-1]}" in keys(stack, "quarantine")
    report = json.loads(stack.s3().get_object(Bucket="quarantine", Key="shop/monday/report.json")["Body"].read())
    assert report["images"] == {first["image"].iloc[-1]: f"is not an image, allowed: {ALLOWED_FORMATS}"}
    stack.upload("again", first[:-1], sightings.root)
    stack.complete("ingest/hourly")
    assert head(stack) == after
    wait_for(lambda: [note for note in notifications if note["event"] == "qaconv.dataset.quarantined"] or None)


def test_a_retraining_whose_worker_is_killed_in_the_middle_makes_a_champion(
    stack: Stack, registry: MlflowClient, notifications: list[dict[str, str]]
) -> None:
    flow_run = stack.start("retrain/weekly")
    unfinished = stack.folder / ".local/clones/worker-gpu/artifacts/unfinished/qaconv.pt"
    wait_for(lambda: unfinished.exists() or None, every_s=0.02)
    stack.kill_tree("worker-gpu")
    assert stack.finish(flow_run).is_completed()
    runs = [run for run in stack.stage_runs(flow_run) if run.name == "train@qaconv"]
    assert sorted(run.state_name or "" for run in runs) == ["Completed", "Crashed"]
    assert "unfinished/qaconv.pt: resumes at" in (stack.folder / ".local/log/worker-gpu.log").read_text(
        encoding="utf-8"
    )
    assert aliases(registry) == {"challenger": "1", "champion": "1"}
    expected = {"qaconv.model.promoted", "prefect.flow-run.Crashed"}
    wait_for(lambda: expected <= {note["event"] for note in notifications} or None)


def test_the_champion_made_again_without_a_kill_has_equal_digests(stack: Stack) -> None:
    made = stack.run("qaconv", "reproduce", "models:/qaconv@champion", check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "qaconv version 1: 0 of" in made.stdout


def test_a_second_retraining_runs_nothing_on_workers_and_registers_nothing(
    stack: Stack, registry: MlflowClient
) -> None:
    flow_run = stack.complete("retrain/weekly")
    assert stack.stage_runs(flow_run) == []
    assert versions(registry) == {"qaconv": 1, "qaconv-encoder": 1, "qaconv-matcher": 1}


def test_a_better_challenger_is_promoted_although_each_server_is_down_for_a_while(
    stack: Stack, registry: MlflowClient
) -> None:
    before = len(registry.search_runs(["1"]))
    flow_run = stack.start("retrain/weekly", changes=BETTER)
    for server, stages, state in (
        ("s3", ["train@baseline"], "Pending"),
        ("prefect", ["features@shop"], "Running"),
        ("mlflow", ["report", "export"], "Completed"),  # the registration follows
    ):
        for stage in stages:
            stack.wait_for_stage(flow_run, stage, state)
        stack.take_down(server, DOWN_S)
    assert stack.finish(flow_run).is_completed()
    assert aliases(registry) == {"challenger": "2", "champion": "2", "previous": "1"}
    assert versions(registry) == {"qaconv": 2, "qaconv-encoder": 2, "qaconv-matcher": 2}
    completed = [run.name for run in stack.stage_runs(flow_run) if run.state_name == "Completed"]
    assert len(completed) == len(set(completed))  # no stage ran twice
    assert len(registry.search_runs(["1"])) == before + 1


def test_a_worse_challenger_is_refused_with_its_reason(stack: Stack, registry: MlflowClient) -> None:
    stack.complete("retrain/weekly", changes={"methods.qaconv.backbone.neck_channels": 3}, fan_out=False)
    assert aliases(registry) == {"challenger": "3", "champion": "2", "previous": "1"}
    tags = registry.get_model_version("qaconv", "3").tags
    assert tags["gate"] == "refused"
    assert "more than 0, with a lower end of at least 0" in tags["promotion"]


def test_rolling_back_brings_the_previous_champion_back_with_its_graphs(stack: Stack, registry: MlflowClient) -> None:
    stack.complete("rollback/rollback", version=2, why="the new one confuses twins")
    assert aliases(registry)["champion"] == "1"
    assert "previous" not in aliases(registry)
    assert registry.get_model_version("qaconv", "2").tags["rolled_back"] == "the new one confuses twins"
    assert registry.get_registered_model("qaconv-encoder").aliases["champion"] == "1"


def test_drifted_sightings_are_reported(stack: Stack, sightings: Manifest, notifications: list[dict[str, str]]) -> None:
    second = sightings.frame[sightings.frame["pid"] > 8]
    for image in second["image"]:  # a fogged lens
        with Image.open(sightings.root / image) as crop:
            crop.resize((2, 2)).resize(crop.size).save(sightings.root / image, quality=20)
    second = second.assign(time_s=second["time_s"].where(second["camid"] != 1))  # and a camera without a clock
    stack.upload("tuesday", second, sightings.root)
    stack.complete("ingest/hourly")
    stack.complete("drift/daily")
    drifted = wait_for(lambda: [note for note in notifications if note["event"] == "qaconv.target.drifted"] or None)
    assert drifted[0]["about"] == "shop"
    assert "clocks: camera 1, missing" in drifted[0]["text"]


def test_a_backup_restored_on_an_empty_machine_brings_the_champion_back(stack: Stack, registry: MlflowClient) -> None:
    backup, before = stack.folder.parent / "backup", aliases(registry)
    assert make(stack.folder, "backup", str(backup)).returncode == 0
    assert make(stack.folder, "down").returncode == 0
    shutil.rmtree(stack.folder / ".local")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the server's closed connections may linger
        taken.bind(("127.0.0.1", int(stack["MLFLOW_PORT"])))
        taken.listen()
        refused = make(stack.folder, "restore", str(backup))
        assert refused.returncode == 2
        assert f"mlflow {stack['MLFLOW_PORT']}" in refused.stdout
    restored = make(stack.folder, "restore", str(backup))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert aliases(registry) == before
    model = mlflow.pyfunc.load_model("models:/qaconv@champion")
    ranked = model.predict(model.input_example, params={"target": "", "top_k": 2})
    assert len(ranked) == 2
    with stack.prefect() as client:
        assert any(run.name == "train@qaconv" for run in client.read_flow_runs())
