"""Data and params.yaml go in; measured, registered and, where they are better, promoted models come out.

`python -m flows.retrain`, in the project's folder, does it once; infra/prefect/prefect.yaml does it every week.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import State
from prefect.tasks import exponential_backoff
from rich.console import Console
from rich.table import Table

from flows.events import announce
from flows.fan_out import ASKS_THE_REMOTE, CRASHES, spread
from flows.params import change_params
from flows.stages import StageFailed, pull_tracked, reproduce
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.registry import promotion, runs
from qaconv.registry.descriptions import result_rows
from qaconv.release.gate import Outcome


@dataclass(frozen=True)
class Step:
    """Stages of dvc.yaml that are brought up to date together, and the pool whose workers do it in a fan-out.

    A worker does all of a target's (what follows `@` in a stage's name), one after the other.
    """

    stages: tuple[str, ...]
    pool: str = "cpu"
    together: bool = False  # all targets on one worker, with what they depend on


STEPS = {
    "prepare": Step(("prepare", "sources"), together=True),
    "train": Step(("train",), pool="gpu"),
    "features": Step(("features",)),
    "match": Step(("match",)),
    "evaluate": Step(("rerank", "fit_tlift", "evaluate")),
    "report": Step(("report", "export")),
}


@dataclass(frozen=True)
class Retraining:
    """What a retraining has come to; `results` has one row a target and method."""

    results: list[dict[str, str]]
    release: registry.Release
    outcome: Outcome


@flow(name="retrain")
def retrain(changes: dict[str, Any] | None = None, fan_out: bool = False) -> Retraining:
    """Brings every stage up to date, registers what was exported and promotes it if it is better.

    Args:
        changes: of params.yaml for this run, by dotted key; recorded with the run and its version.
        fan_out: lets workers in clones of their own run the stages, rather than this process.

    Raises:
        InputError: params.yaml is refused, or a figure is missing.
        StageFailed: a stage has failed; the MLflow run is closed as FAILED.
    """
    if flow_run.run_count > CRASHES:
        raise StageFailed(f"{CRASHES} workers have died over it")
    if changes:
        change_params(changes)
    params = load_params()
    if fan_out:
        pull_tracked(get_run_logger())
    with runs.retraining_run(params, flow_tags()):
        for name, step in STEPS.items():
            tries = ASKS_THE_REMOTE if fan_out else {}
            run_step.with_options(name=name, **tries)(step, fan_out)
        metrics = runs.load_metrics(params.targets)
        release = register(params, metrics)
        outcome = promote(params, release)
        report = publish_report(release, outcome)
    results = result_rows(params, metrics)
    create_table_artifact(results, key="results", description="rank-1 / mAP in per cent")
    create_markdown_artifact(_promotion_page(outcome), key="promotion")
    create_markdown_artifact(f"[What the model can do, and examples]({report})", key="report")
    return Retraining(results, release, outcome)


@task(tags=["dvc"], cache_policy=NO_CACHE)
def run_step(step: Step, fan_out: bool) -> None:
    """DVC knows what is up to date, and a further try finds the workers' runs: only DVC's remote is asked again."""
    log = get_run_logger()
    if fan_out:
        spread(step.stages, step.pool, together=step.together, log=log)
    reproduce(step.stages, log, pull=fan_out)


def _worth_retrying(task: Any, task_run: Any, state: State) -> bool:
    """A store may be back in a moment; what a person must mend is not."""
    return not isinstance(state.result(raise_on_failure=False), InputError)


REACHES_A_STORE: dict[str, Any] = {
    "tags": ["mlflow"],
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_condition_fn": _worth_retrying,
}


@task(name="register", **REACHES_A_STORE)
def register(params: Params, metrics: Mapping[str, float]) -> registry.Release:
    """Logs the results and registers the models; the same dvc.lock gives the version it gave before."""
    runs.log_files(params)
    release = registry.register(params, metrics)
    runs.log_figures(metrics)
    return release


@task(name="promote", **REACHES_A_STORE)
def promote(params: Params, release: registry.Release) -> Outcome:
    """Moves the alias champion, or says why not."""
    outcome = promotion.promote(release, params.gate)
    get_run_logger().info(outcome.reason)
    if outcome.verdict != "unchanged":
        announce("model.promoted" if outcome.promoted else "model.refused", release.name, outcome.reason)
    return outcome


@task(name="publish_report", **REACHES_A_STORE)
def publish_report(release: registry.Release, outcome: Outcome) -> str:
    """Logs the report with a word on this run and the champion; gives its address."""
    return runs.log_report(str(release), outcome.reason, outcome.figures)


def flow_tags() -> dict[str, str]:
    """Lead from the MLflow run to the flow run, whose name it bears; a temporary server has no page to lead to."""
    tags = {"flow_run_id": str(flow_run.id), "mlflow.runName": str(flow_run.name)}
    return {**tags, "flow_run_url": str(flow_run.ui_url)} if get_current_settings().ui_url else tags


def _promotion_page(outcome: Outcome) -> str:
    rules = [f"| {check.rule} | {'kept' if check.kept else '**broken**'} | {check.detail} |" for check in outcome.checks]
    table = ["", "| rule | | found |", "| --- | --- | --- |", *rules] if rules else []
    return "\n".join([f"**{outcome.verdict.capitalize()}.** {outcome.reason}", *table])


def main() -> None:
    """Runs the flow once and shows what came of it."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        retraining = retrain()
    except (InputError, StageFailed) as error:
        console.print(f"failed: {error}", style="bold red")
        sys.exit(1)
    _show(retraining, console)


def _show(retraining: Retraining, console: Console) -> None:
    table = Table(title="rank-1 / mAP, per cent", title_justify="left")
    for column in retraining.results[0]:
        table.add_column(column, justify="left" if column in ("target", "model") else "right")
    for row in retraining.results:
        table.add_row(*row.values())
    release, commands = retraining.release, Path(sys.executable).parent
    store, server = runs.store_uri(), get_current_settings().ui_url
    # Any store but the project's own is another's to show, and its address may hold a password.
    local = store.startswith("sqlite:")
    mlflow_ui = f"{commands}/mlflow ui --backend-store-uri {store}" if local else "where MLFLOW_TRACKING_URI points"
    console.print(table)
    console.print(
        f"registered model  {release.name}, version {release.version}: {', '.join(registry.aliases(release))}"
    )
    console.print(f"gate              {retraining.outcome.reason}")
    console.print(f"MLflow UI         {mlflow_ui}")
    console.print(f"Prefect UI        {server or f'{commands}/prefect server start'}")


if __name__ == "__main__":
    main()
