import json
import subprocess
from hashlib import sha256
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.metrics import Estimate
from qaconv.paths import ONNX
from qaconv.registry import register, runs
from qaconv.registry.runs import git_tags, load_metrics, log_figures, log_files, log_report, retraining_run
from qaconv.release.gate import Comparison
from qaconv.runtime.contract import Contract
from tests.tracked_projects import made_up_metrics, write, write_estimated


def read_run(run_id: str) -> Run:
    return MlflowClient().get_run(run_id)


def dataset_inputs(run: Run) -> list[DatasetInput]:
    assert run.inputs is not None
    return list(run.inputs.dataset_inputs)


def test_a_run_holds_params_epochs_metrics_datasets_and_files(params: Params, tmp_path: Path) -> None:
    with retraining_run(params, {"flow_run_id": "f1"}) as run_id:
        log_files(params)
        log_figures(params, load_metrics(params))
    run = read_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["methods.qaconv.train.lr"] == "0.05"
    assert run.data.tags["flow_run_id"] == "f1"
    assert run.data.tags["dvc_lock"] == sha256((tmp_path / "dvc.lock").read_bytes()).hexdigest()
    assert run.data.metrics["station.qaconv.direct.mAP"] == 0.25
    assert run.data.metrics["mall.queries"] == 10
    history = MlflowClient().get_metric_history(run_id, "train.baseline.loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.5), (2, 1.5)]
    roles = {
        entry.dataset.name: (entry.dataset.digest, entry.tags[0].value, json.loads(entry.dataset.source)["uri"])
        for entry in dataset_inputs(run)
    }
    digest = f"{'a' * 32}.dir"
    assert roles == {
        "campus": (digest, "training", "data/prepared/campus"),
        "station": (digest, "evaluation", "data/prepared/station"),
        "mall": (digest, "evaluation", "data/prepared/mall"),
    }
    logged = {
        path.relative_to(tmp_path / "mlartifacts" / run_id / "artifacts").as_posix()
        for path in (tmp_path / "mlartifacts" / run_id).rglob("*.*")
    }
    assert logged == {
        "params.yaml",
        "dvc.lock",
        "contract.json",
        "network/weights.safetensors",
        "tlift/station/qaconv.json",
        "tlift/station/baseline.json",
        "tlift/mall/qaconv.json",
        "tlift/mall/baseline.json",
        "metrics/station.json",
        "metrics/cmc/station.csv",
        "metrics/mall.json",
        "metrics/cmc/mall.csv",
    }


def test_a_dataset_trained_on_and_measured_is_logged_once_with_both_roles(params: Params, tmp_path: Path) -> None:
    params = params.model_copy(update={"sources": params.sources.model_copy(update={"datasets": ["station"]})})
    with retraining_run(params, {}) as run_id:
        log_files(params)
        log_figures(params, load_metrics(params))
    roles = {entry.dataset.name: entry.tags[0].value for entry in dataset_inputs(read_run(run_id))}
    assert roles == {"station": "training and evaluation", "mall": "evaluation"}


def test_a_resumed_flow_run_continues_the_run_that_its_killed_process_left_open(
    params: Params,
) -> None:
    flow = {"flow_run_id": "f1"}
    with retraining_run(params, flow) as closed:
        pass
    with retraining_run(params, flow) as killed:
        assert killed != closed
    MlflowClient().update_run(killed, status="RUNNING")
    with retraining_run(params, {"flow_run_id": "f2"}) as other:
        assert other != killed
    with retraining_run(params, flow) as resumed:
        assert resumed == killed
    assert read_run(killed).info.status == "FINISHED"


def test_a_run_that_a_killed_process_left_open_at_another_commit_is_closed(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with retraining_run(params, {"flow_run_id": "f1"}) as killed:
        pass
    MlflowClient().update_run(killed, status="RUNNING")
    monkeypatch.setattr(runs, "git_tags", lambda: {"git_commit": "another", "git_dirty": "false"})
    with retraining_run(params, {"flow_run_id": "f1"}) as resumed:
        assert resumed != killed
    assert read_run(killed).info.status == "KILLED"


def test_an_exception_closes_the_run_failed_with_its_message(params: Params) -> None:
    with pytest.raises(InputError), retraining_run(params, {}) as run_id:
        raise InputError("station: has no images")
    assert read_run(run_id).info.status == "FAILED"
    assert read_run(run_id).data.tags["failure"] == "station: has no images"
    assert mlflow.active_run() is None


def test_a_setting_longer_than_mlflow_allows_does_not_stop_a_run(params: Params) -> None:
    names = [f"network{number}" for number in range(1000)]
    params = params.model_copy(update={"targets": names})
    with retraining_run(params, {}) as run_id:
        pass
    assert read_run(run_id).data.params["targets"].startswith("['network0', ")


def test_mlflow_tracking_uri_wins_over_the_projects_store(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    (tmp_path / "mlflow.db").rename(other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    with retraining_run(params, {}) as run_id:
        pass
    assert MlflowClient(f"sqlite:///{other}").get_run(run_id).info.status == "FINISHED"
    assert not (tmp_path / "mlflow.db").exists()


def test_a_missing_metrics_file_is_refused_by_name(params: Params, tmp_path: Path) -> None:
    (tmp_path / "metrics/mall.json").unlink()
    with pytest.raises(InputError, match=r"metrics/mall\.json does not exist"):
        load_metrics(params)


def test_estimates_of_a_target_without_labels_are_logged_as_such(params: Params, tmp_path: Path) -> None:
    write_estimated(tmp_path / "metrics", "mall", share=0.75)
    metrics = load_metrics(params)
    with retraining_run(params, {}) as run_id:
        log_figures(params, metrics)
    logged = read_run(run_id).data.metrics
    assert logged["mall.estimated"] == 1 and logged["mall.qaconv.expected.share_with_match"] == 0.75
    assert not [name for name in logged if name.startswith("mall") and name.endswith("mAP")]
    assert logged["station.qaconv.direct.mAP"] == 0.25 and "station.estimated" not in logged


@pytest.mark.parametrize("found", [None, float("nan")])
def test_a_metric_that_is_missing_or_not_a_number_is_refused_and_never_zero(
    params: Params, tmp_path: Path, found: float | None
) -> None:
    metrics = made_up_metrics(0.5)
    if found is None:
        del metrics["qaconv"]["direct"]["mAP"]
    else:
        metrics["qaconv"]["direct"]["mAP"] = found
    write(tmp_path / "metrics/mall.json", json.dumps(metrics))
    with pytest.raises(
        InputError, match=r"mall\.json: qaconv\.direct\.mAP must be a finite number, got (nothing|nan);"
    ):
        load_metrics(params)


def test_a_dataset_that_dvc_lock_does_not_know_is_refused(params: Params, tmp_path: Path) -> None:
    write(tmp_path / "dvc.lock", "schema: '2.0'\nstages: {}\n")
    with pytest.raises(InputError, match=r"dvc\.lock: has no output data/prepared/campus"), retraining_run(params, {}):
        log_files(params)
        log_figures(params, load_metrics(params))


def test_only_a_change_that_the_run_does_not_record_itself_makes_the_tree_dirty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    assert git_tags() == {"git_commit": "none", "git_dirty": "true"}
    for name in ("params.yaml", "dvc.yaml"):
        write(tmp_path / name, "seed: 1\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "First")
    assert git_tags() == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "false"}
    write(tmp_path / "params.yaml", "seed: 2\n")
    assert git_tags()["git_dirty"] == "false"
    write(tmp_path / "dvc.yaml", "seed: 2\n")
    assert git_tags()["git_dirty"] == "true"


def test_the_logged_report_names_commit_run_and_champion(params: Params, tmp_path: Path) -> None:
    with retraining_run(params, {"flow_run_id": "f1", "flow_run_url": "https://prefect.example/runs/f1"}) as run_id:
        champion = {"mall": Comparison(50.0, 37.5, Estimate(12.5, 9.0, 15.75, 20))}
        address = log_report("qaconv version 2", "It replaces <version 1>.", champion)
    logged = tmp_path / "mlartifacts" / run_id / "artifacts" / "report"
    assert address == (logged / "report.html").as_uri()
    page = (logged / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<main>") and page.endswith("</main>")
    for words in (
        "qaconv version 2",
        "It replaces &lt;version 1&gt;.",
        run_id,
        git_tags()["git_commit"],
        sha256((tmp_path / "dvc.lock").read_bytes()).hexdigest(),
        '<a href="https://prefect.example/runs/f1"><code>f1</code></a>',
        "<td>50.0</td><td>37.5</td><td>+12.5<small>+9.0 to +15.8</small></td>",
    ):
        assert words in page
    assert (logged / "report.json").is_file()


def test_a_report_in_a_server_is_linked_without_the_password_of_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@mlflow.example:5000")
    assert runs._server() == "http://mlflow.example:5000"


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/team/people.git",
        "https://name:secret@github.com/team/people",
        "git@github.com:team/people.git",
        "ssh://git@github.com:22/team/people.git",
    ],
)
def test_a_commit_is_linked_to_its_forge_without_a_secret(remote: str) -> None:
    assert runs._commit_page(remote, "abc") == "https://github.com/team/people/commit/abc"


@pytest.mark.parametrize("remote", ["", "/srv/people.git", "file:///srv/people.git"])
def test_a_commit_of_no_forge_is_not_linked(remote: str) -> None:
    assert runs._commit_page(remote, "abc") == ""


def test_the_licence_of_the_first_weights_is_in_a_versions_tags_and_description(params: Params) -> None:
    contract = Contract.load(ONNX)
    licensed = {**contract.architecture, "backbone": {"weights": "vit.safetensors", "weights_licence": "CC BY-NC 4.0"}}
    contract.model_copy(update={"architecture": licensed}).save(ONNX)
    with retraining_run(params, {}):
        release = register(params, load_metrics(params))
    version = MlflowClient().get_model_version(params.registry.model, release.version)
    assert version.tags["weights_licence"] == "CC BY-NC 4.0"
    assert version.description and "Began with weights none: licence CC BY-NC 4.0." in version.description
