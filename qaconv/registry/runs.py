"""A retraining's settings, figures and files go in; one MLflow run says what was made of what, and how it went."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import mlflow
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # made when mlflow.data loads

from qaconv.config import METHODS, Params
from qaconv.errors import InputError
from qaconv.metrics.metrics_file import TargetMetrics
from qaconv.paths import METRICS, MODELS, ONNX, PREPARED, REPORT, TLIFT
from qaconv.release.gate import Comparison
from qaconv.report import Run, add_run

STORE = Path("mlflow.db")  # in the project's folder, where MLFLOW_TRACKING_URI names no other store
ARTIFACTS = Path("mlartifacts")  # that store's files
DVC_LOCK = Path("dvc.lock")


@contextmanager
def retraining_run(params: Params, flow: Mapping[str, str]) -> Iterator[str]:
    """Opens the MLflow run of a retraining, or of a fit, in the project's folder; an exception closes it FAILED.

    One that a killed process has left open is gone on with, where the flow run is taken up again.

    Args:
        params: logged, one parameter a setting.
        flow: tags that lead to the flow run, such as flow_run_id.

    Yields:
        The run's id.
    """
    experiment = _open_experiment(params.registry.experiment)
    tags = {**git_tags(), **flow}
    with mlflow.start_run(_left_open(experiment, tags), experiment, tags=tags) as run:
        mlflow.log_params(_flat(params.model_dump(mode="json")))
        try:
            yield run.info.run_id
        except Exception as error:
            mlflow.set_tag("failure", str(error))
            raise
        finally:
            if DVC_LOCK.is_file():
                mlflow.set_tag("dvc_lock", lock_digest())


def log_files(params: Params) -> None:
    """Logs to the open run: datasets by DVC's digests, what reproduction starts from, and the files people look at."""
    _log_datasets(params)
    for path in (Path("params.yaml"), DVC_LOCK, ONNX / "contract.json"):
        mlflow.log_artifact(str(path))
    for target in params.targets:
        log_profiles(target)
        for path in (METRICS / f"{target}.json", METRICS / "cmc" / f"{target}.csv"):
            mlflow.log_artifact(str(path), path.parent.as_posix())


def log_figures(metrics: Mapping[str, float]) -> None:
    """Logs to the open run, and to the models logged in it: each epoch, and metrics by target.

    After the models, as MLflow would else ask for the history of every metric, one by one, for each model.
    """
    for method in METHODS:
        for row in pd.read_csv(MODELS / method / "history.csv").to_dict("records"):
            epoch = int(row.pop("epoch"))
            mlflow.log_metrics({f"train.{method}.{name}": value for name, value in row.items()}, step=epoch)
    mlflow.log_metrics(dict(metrics))


def log_profiles(target: str) -> None:
    """Logs a target's temporal profiles with their pictures to the open run."""
    mlflow.log_artifacts(str(TLIFT / target), f"tlift/{target}")


def log_report(model: str, verdict: str, champion: Mapping[str, Comparison]) -> str:
    """Logs the report to the open run, with a word on that run in it.

    Args:
        model: what was registered.
        verdict: whether it was promoted, and why.
        champion: the model beside the champion, by target.

    Returns:
        Where the report lies: a page of MLflow's where that is a server, or else a URI.
    """
    run = mlflow.active_run()
    assert run is not None
    of = run.info
    tags = mlflow.get_run(of.run_id).data.tags
    facts = {
        "Model": model,
        "Commit": tags["git_commit"] + (", with changes" if tags["git_dirty"] == "true" else ""),
        "MLflow run": of.run_id,
        "dvc.lock, sha256": lock_digest(),
        "Prefect flow run": tags.get("flow_run_id", "none"),
    }
    server = _server()
    links = {}
    if server:
        links["MLflow run"] = f"{server}/#/experiments/{of.experiment_id}/runs/{of.run_id}"
        links["dvc.lock, sha256"] = f"{links['MLflow run']}/artifacts/{DVC_LOCK.name}"  # as it was, with all data's md5
    if commit_page := _commit_page(_git("remote", "get-url", "origin"), tags["git_commit"]):
        links["Commit"] = commit_page
    if "flow_run_url" in tags:
        links["Prefect flow run"] = tags["flow_run_url"]
    page = (REPORT / "report.html").read_text(encoding="utf-8")
    mlflow.log_text(add_run(page, Run(facts, links, verdict, champion)), "report/report.html")
    mlflow.log_artifact(str(REPORT / "report.json"), "report")
    return f"{links['MLflow run']}/artifacts" if server else f"{of.artifact_uri}/report/report.html"


def _commit_page(remote: str, commit: str) -> str:
    """Where a forge such as GitHub or GitLab shows a commit; empty for a remote that is a folder, or none."""
    found = re.fullmatch(r"(?:https?://(?:[^@/]+@)?|(?:ssh://)?git@)([^/:]+)(?::\d+)?[/:](.+?)(?:\.git)?/?", remote)
    return f"https://{found[1]}/{found[2]}/commit/{commit}" if found else ""


def load_metrics(targets: Sequence[str], project: Path = Path()) -> dict[str, float]:
    """Figures of the targets in [0, 1], and counts, by names such as `station.qaconv.direct.mAP`.

    Raises:
        InputError: a file or a figure is missing, or a figure is not a number.
    """
    metrics = {}
    for target in targets:
        figures = TargetMetrics.load(project / METRICS / f"{target}.json", methods=METHODS)
        metrics.update({f"{target}.{name}": value for name, value in _flat(figures.as_dict()).items()})
    return metrics


def git_tags() -> dict[str, str]:
    """The commit, or "none", and whether the working tree differs from it but for what each run records itself."""
    commit = _git("rev-parse", "--verify", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!params.yaml", f":!{DVC_LOCK}")
    return {"git_commit": commit or "none", "git_dirty": str(not commit or bool(changed)).lower()}


def data_digests(datasets: Sequence[str]) -> dict[str, str]:
    """DVC's md5 of each prepared dataset, by name.

    Raises:
        InputError: dvc.lock lacks one.
    """
    lock = yaml.safe_load(DVC_LOCK.read_text(encoding="utf-8"))
    md5 = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", ())}
    missing = [path for name in datasets if (path := (PREPARED / name).as_posix()) not in md5]
    if missing:
        raise InputError(f"{DVC_LOCK}: has no output {', '.join(missing)}; `dvc repro prepare` writes it")
    return {name: md5[(PREPARED / name).as_posix()] for name in datasets}


def lock_digest() -> str:
    """sha256 of dvc.lock: two retrainings that share it have made the same files from the same files."""
    return sha256(DVC_LOCK.read_bytes()).hexdigest()


def store_uri() -> str:
    """MLFLOW_TRACKING_URI, or else the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE.resolve()}"


def _server() -> str:
    """The server's address as others may read it, without a password; nothing where the store is a database."""
    uri = urlsplit(store_uri())
    return urlunsplit(uri._replace(netloc=uri.netloc.rpartition("@")[2])) if uri.scheme.startswith("http") else ""


def connect() -> str:
    """Lets every later call of MLflow go to that store, and gives its address."""
    mlflow.set_tracking_uri(store_uri())
    return store_uri()


def _open_experiment(name: str) -> str:
    uri = connect()
    client = MlflowClient()
    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    # A server decides where files go; a database alone would put them into ./mlruns.
    location = None if uri.startswith("http") else ARTIFACTS.resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _left_open(experiment: str, tags: Mapping[str, str]) -> str | None:
    """The run of the same flow run that nothing has closed; if it is of another commit, it is closed as KILLED."""
    same = f"tags.flow_run_id = '{tags.get('flow_run_id', '')}' and attributes.status = 'RUNNING'"
    for run in MlflowClient().search_runs([experiment], same):
        if run.data.tags["git_commit"] == tags["git_commit"]:
            return str(run.info.run_id)
        MlflowClient().set_terminated(run.info.run_id, "KILLED")
    return None


def _log_datasets(params: Params) -> None:
    roles: dict[str, list[str]] = {}
    for role, names in (("training", params.train.datasets), ("evaluation", params.targets)):
        for name in names:
            roles.setdefault(name, []).append(role)
    digests = data_digests(list(roles))
    for name, of in roles.items():
        source = LocalArtifactDatasetSource((PREPARED / name).as_posix())
        dataset = MetaDataset(source, name=name, digest=digests[name])  # type: ignore[abstract]
        mlflow.log_input(dataset, context=" and ".join(of))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    below = (_flat(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items())
    return {key: inner for part in below for key, inner in part.items()}


def _git(*arguments: str) -> str:
    """What git prints, or nothing outside a repository."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
