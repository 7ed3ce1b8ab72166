"""Record a retraining in one MLflow run: settings, data, metrics and files."""

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
from mlflow.entities import LifecycleStage

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.failures import require_answer
from qaconv.metrics.estimates_file import load_target
from qaconv.paths import METRICS, MODELS, ONNX, PREPARED, REPORT, TLIFT
from qaconv.registry.relocation import check_place
from qaconv.release.gate import Comparison
from qaconv.report import Run, add_run

STORE = Path("mlflow.db")  # in the project's folder, unless MLFLOW_TRACKING_URI names another store
ARTIFACTS = Path("mlartifacts")  # files of that store
SQLITE = "sqlite:///"
DVC_LOCK = Path("dvc.lock")
WEIGHTS_FILE = "weights.safetensors"
NETWORK = f"network/{WEIGHTS_FILE}"  # in a run: the served method's network, with which a later training may begin


@contextmanager
def retraining_run(params: Params, flow: Mapping[str, str]) -> Iterator[str]:
    """Open the MLflow run of a retraining or a fit in the project's folder. An exception closes it as FAILED.

    A run that a killed process left open is continued when its flow run is resumed.

    Args:
        params: settings, logged as one parameter each.
        flow: tags of the flow run, such as flow_run_id.

    Yields:
        The run's id.
    """
    experiment = _open_experiment(params.registry.experiment)
    tags = {**git_tags(), **flow}
    with mlflow.start_run(_left_open(experiment, tags), experiment, tags=tags) as run:
        mlflow.log_params(flatten(params.model_dump(mode="json")))
        try:
            yield run.info.run_id
        except Exception as error:
            mlflow.set_tag("failure", str(error))
            raise
        finally:
            if DVC_LOCK.is_file():
                mlflow.set_tag("dvc_lock", lock_digest())


def log_files(params: Params) -> None:
    """Log datasets by DVC's digests, the inputs of a reproduction, and the files for people, to the open run."""
    _log_datasets(params)
    for path in (Path("params.yaml"), DVC_LOCK, ONNX / "contract.json"):
        mlflow.log_artifact(str(path))
    mlflow.log_artifact(str(MODELS / params.registry.method / WEIGHTS_FILE), Path(NETWORK).parent.as_posix())
    for target in params.targets:
        log_profiles(target)
        for path in (METRICS / f"{target}.json", METRICS / "cmc" / f"{target}.csv"):
            mlflow.log_artifact(str(path), path.parent.as_posix())


def log_figures(params: Params, metrics: Mapping[str, float]) -> None:
    """Log each epoch, and metrics by target, to the open run and the models in it.

    Call it after the models are logged. Before, MLflow would read the history of every metric again for each model.
    """
    for method in params.methods:
        for row in pd.read_csv(MODELS / method / "history.csv").to_dict("records"):
            epoch = int(row.pop("epoch"))
            mlflow.log_metrics({f"train.{method}.{name}": value for name, value in row.items()}, step=epoch)
    mlflow.log_metrics(dict(metrics))


def log_profiles(target: str) -> None:
    """Log a target's temporal profiles with their pictures to the open run."""
    mlflow.log_artifacts(str(TLIFT / target), f"tlift/{target}")


def log_report(model: str, verdict: str, champion: Mapping[str, Comparison]) -> str:
    """Log the report, with a paragraph about the run, to the open run.

    Args:
        model: the version that was registered.
        verdict: whether it was promoted, and why.
        champion: comparison with the champion, by target.

    Returns:
        The report's address: a page of MLflow's server, or a URI where there is no server.
    """
    run = mlflow.active_run()
    assert run is not None
    info = run.info
    tags = mlflow.get_run(info.run_id).data.tags
    facts = {
        "Model": model,
        "Commit": tags["git_commit"] + (", with changes" if tags["git_dirty"] == "true" else ""),
        "MLflow run": info.run_id,
        "dvc.lock, sha256": lock_digest(),
        "Prefect flow run": tags.get("flow_run_id", "none"),
    }
    server = _server()
    links = {}
    if server:
        links["MLflow run"] = f"{server}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
        links["dvc.lock, sha256"] = f"{links['MLflow run']}/artifacts/{DVC_LOCK.name}"  # has the md5 of all data
    if commit_page := _commit_page(_git("remote", "get-url", "origin"), tags["git_commit"]):
        links["Commit"] = commit_page
    if "flow_run_url" in tags:
        links["Prefect flow run"] = tags["flow_run_url"]
    page = (REPORT / "report.html").read_text(encoding="utf-8")
    mlflow.log_text(add_run(page, Run(facts, links, verdict, champion)), "report/report.html")
    mlflow.log_artifact(str(REPORT / "report.json"), "report")
    return f"{links['MLflow run']}/artifacts" if server else f"{info.artifact_uri}/report/report.html"


def _commit_page(remote: str, commit: str) -> str:
    """Return where a forge such as GitHub or GitLab shows a commit; empty for a remote without one."""
    match = re.fullmatch(r"(?:https?://(?:[^@/]+@)?|(?:ssh://)?git@)([^/:]+)(?::\d+)?[/:](.+?)(?:\.git)?/?", remote)
    return f"https://{match[1]}/{match[2]}/commit/{commit}" if match else ""


def load_metrics(params: Params, project: Path = Path()) -> dict[str, float]:
    """Load the metrics of every target and method in [0, 1], and counts, by names such as `station.qaconv.direct.mAP`.

    Of a target without labels these are its estimates, with `<target>.estimated`.

    Raises:
        InputError: a file or a metric is missing, or a metric is not a finite number.
    """
    metrics = {}
    for target in params.targets:
        figures = load_target(project / METRICS / f"{target}.json", methods=params.methods)
        values = flatten(figures.as_dict())
        metrics.update({f"{target}.{name}": value for name, value in values.items() if not isinstance(value, str)})
    return metrics


def git_tags() -> dict[str, str]:
    """Return the commit, or "none", and whether the tree differs from it in files that a run does not record itself."""
    commit = _git("rev-parse", "--verify", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!params.yaml", f":!{DVC_LOCK}")
    return {"git_commit": commit or "none", "git_dirty": str(not commit or bool(changed)).lower()}


def data_digests(datasets: Sequence[str]) -> dict[str, str]:
    """Return DVC's md5 of each prepared dataset, by name.

    Raises:
        InputError: dvc.lock does not have one of them.
    """
    lock = yaml.safe_load(DVC_LOCK.read_text(encoding="utf-8"))
    md5 = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", ())}
    missing = [path for name in datasets if (path := (PREPARED / name).as_posix()) not in md5]
    if missing:
        raise InputError(f"{DVC_LOCK}: has no output {', '.join(missing)}; `dvc repro prepare` writes it")
    return {name: md5[(PREPARED / name).as_posix()] for name in datasets}


def lock_digest() -> str:
    """Return the sha256 of dvc.lock, which retrainings with the same inputs and outputs share."""
    return sha256(DVC_LOCK.read_bytes()).hexdigest()


def store_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite file in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{STORE.resolve()}"


def _server() -> str:
    """Return the server's address without a password; empty where the store is a database."""
    uri = urlsplit(store_uri())
    return urlunsplit(uri._replace(netloc=uri.netloc.rpartition("@")[2])) if uri.scheme.startswith("http") else ""


def use_store() -> str:
    """Make MLflow use that store, and return its address. A flow then waits for a store that is down for a moment.

    Raises:
        InputError: the project's store keeps its files in another folder, as the project was moved or copied.
    """
    uri = store_uri()
    if uri.startswith(SQLITE) and Path(uri.removeprefix(SQLITE)).resolve() == STORE.resolve():
        check_place(STORE, ARTIFACTS)
    mlflow.set_tracking_uri(uri)
    return uri


def connect() -> None:
    """Make MLflow use that store, if it answers within seconds: for commands that a person types.

    Raises:
        InputError: it does not answer.
    """
    require_answer("MLFLOW_TRACKING_URI", use_store(), "/health")


def find_experiment(name: str) -> str | None:
    """Return the id of an experiment; None if it has to be created.

    Raises:
        InputError: it was deleted, so that no run can be added and its name is taken.
    """
    experiment = MlflowClient().get_experiment_by_name(name)
    if experiment is None:
        return None
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InputError(
            f"params.yaml: registry.experiment {name!r} was deleted in MLflow; choose another name, or run `mlflow "
            f"experiments restore --experiment-id {experiment.experiment_id}`"
        )
    return str(experiment.experiment_id)


def _open_experiment(name: str) -> str:
    uri = use_store()
    client = MlflowClient()
    if experiment := find_experiment(name):
        return experiment
    # A server decides where files go. With a database alone MLflow would put them into ./mlruns.
    location = None if uri.startswith("http") else ARTIFACTS.resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _left_open(experiment: str, tags: Mapping[str, str]) -> str | None:
    """Find the open run of the same flow run; close it as KILLED if it is of another commit."""
    same = f"tags.flow_run_id = '{tags.get('flow_run_id', '')}' and attributes.status = 'RUNNING'"
    for run in MlflowClient().search_runs([experiment], same):
        if run.data.tags["git_commit"] == tags["git_commit"]:
            return str(run.info.run_id)
        MlflowClient().set_terminated(run.info.run_id, "KILLED")
    return None


def _log_datasets(params: Params) -> None:
    roles: dict[str, list[str]] = {}
    for role, names in (("training", params.sources.datasets), ("evaluation", params.targets)):
        for name in names:
            roles.setdefault(name, []).append(role)
    digests = data_digests(list(roles))
    for name, names in roles.items():
        source = LocalArtifactDatasetSource((PREPARED / name).as_posix())
        dataset = MetaDataset(source, name=name, digest=digests[name])  # type: ignore[abstract]
        mlflow.log_input(dataset, context=" and ".join(names))


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings into one with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    below = (flatten(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items())
    return {key: inner for part in below for key, inner in part.items()}


def _git(*arguments: str) -> str:
    """Return what git prints; empty outside a repository."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()
