"""Retrain: bring every stage up to date, register the models, and promote them if they are better.

`python -m flows.retrain`, in the project's folder, runs it once; infra/prefect/prefect.yaml runs it every week.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.tasks import exponential_backoff
from rich.console import Console
from rich.table import Table

from flows.by_hand import by_hand
from flows.events import announce
from flows.fan_out import MAX_CRASHES, RETRY_REMOTE, spread
from flows.params import change_params
from flows.stages import StageFailed, pull_tracked, reproduce
from flows.starts import fetch_numbered
from flows.steps import Step, load_steps
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.registry import promotion, runs, sites
from qaconv.registry.descriptions import ESTIMATES, RESULTS, estimate_rows, result_rows
from qaconv.release.gate import Outcome

TITLES = (RESULTS, ESTIMATES, sites.ADAPTED_ROWS)  # of the tables of a retraining


@dataclass(frozen=True)
class Retraining:
    """The outcome of a retraining.

    Attributes:
        results: one row for each target with labels and method.
        estimates: one row for each target without labels and method.
        adapted: two rows for each target that was adapted to, the network as trained and the adapted one.
        release: the registered version.
        outcome: what the gate decided.
    """

    results: list[dict[str, str]]
    estimates: list[dict[str, str]]
    adapted: list[dict[str, str]]
    release: registry.Release
    outcome: Outcome


@flow(name="retrain")
def retrain(changes: dict[str, Any] | None = None, fan_out: bool = False) -> Retraining:
    """Bring every stage up to date, register what was exported, and promote it if it is better.

    Args:
        changes: values of params.yaml for this run, by dotted key; recorded with the run and its version.
        fan_out: run the stages on workers, each in a clone of its own. Default: in this process.

    Raises:
        InputError: params.yaml is invalid, or a metric is missing.
        StageFailed: a stage has failed; the MLflow run is closed as FAILED.
    """
    if flow_run.run_count > MAX_CRASHES:
        raise StageFailed(f"{MAX_CRASHES} workers have died while they ran it")
    if changes:
        change_params(changes)
    params = fetch_numbered(load_params())
    if fan_out:
        pull_tracked(get_run_logger())
    with runs.retraining_run(params, flow_tags()):
        retries = RETRY_REMOTE if fan_out else {}
        for name, step in load_steps().items():
            if name == "adapt" and not params.adapt.targets:  # to DVC, a name without stages means every stage
                continue
            run_step.with_options(name=name, **retries)(step, fan_out)
        metrics = runs.load_metrics(params)
        release = register(params, metrics)
        outcome = promote(params, release)
        report = publish_report(release, outcome)
    tables = (result_rows(params, metrics), estimate_rows(params, metrics), sites.adapted_rows(params))
    for key, title, rows in zip(("results", "estimates", "adapted"), TITLES, tables, strict=True):
        if rows:
            create_table_artifact(rows, key=key, description=title)
    create_markdown_artifact(promotion_page(outcome), key="promotion")
    create_markdown_artifact(f"[What the model can do, and examples]({report})", key="report")
    return Retraining(*tables, release, outcome)


@task(tags=["dvc"], cache_policy=NO_CACHE)
def run_step(step: Step, fan_out: bool) -> None:
    """Bring a step's stages up to date.

    A retry repeats no work: DVC knows what is up to date, and a fan-out finds the workers' runs again.
    """
    log = get_run_logger()
    if fan_out:
        parts = load_params().evaluate.parts if step.in_parts else 1
        spread(step.stages, step.pool, together=step.together, parts=parts, log=log)
    # The steps before have made what these stages depend on, except where a step's stages bring that along.
    reproduce(step.stages, log, pull=fan_out, alone=not (fan_out or step.together))


def _is_worth_a_retry(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Return False for an input error, which only a person can correct; a store may answer again in a moment."""
    return not isinstance(state.result(raise_on_failure=False), InputError)


RETRY_STORE: dict[str, Any] = {
    "tags": ["mlflow"],
    "cache_policy": NO_CACHE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_condition_fn": _is_worth_a_retry,
}


@task(name="register", **RETRY_STORE)
def register(params: Params, metrics: Mapping[str, float]) -> registry.Release:
    """Log the results and register the models; an unchanged dvc.lock returns the version that exists."""
    runs.log_files(params)
    release = registry.register(params, metrics)
    runs.log_figures(params, metrics)
    return release


@task(name="promote", **RETRY_STORE)
def promote(params: Params, release: registry.Release) -> Outcome:
    """Move the alias champion if the gate allows it, and announce the decision."""
    outcome = promotion.promote(release, params.gate)
    get_run_logger().info(outcome.reason)
    if outcome.verdict != "unchanged":
        announce("model.promoted" if outcome.promoted else "model.refused", release.name, outcome.reason)
    return outcome


@task(name="publish_report", **RETRY_STORE)
def publish_report(release: registry.Release, outcome: Outcome) -> str:
    """Log the report with a paragraph on this run and the champion, and return its address."""
    return runs.log_report(str(release), outcome.reason, outcome.figures)


def flow_tags() -> dict[str, str]:
    """Return the tags that lead from the MLflow run to the flow run, whose name it has.

    The address of the flow run's page is among them unless the Prefect server is a temporary one.
    """
    tags = {"flow_run_id": str(flow_run.id), "mlflow.runName": str(flow_run.name)}
    return {**tags, "flow_run_url": str(flow_run.ui_url)} if get_current_settings().ui_url else tags


def promotion_page(outcome: Outcome) -> str:
    """Return the gate's decision and each of its checks in Markdown."""
    rules = [
        f"| {check.rule} | {'kept' if check.kept else '**broken**'} | {check.detail} |" for check in outcome.checks
    ]
    table = ["", "| rule | | measured |", "| --- | --- | --- |", *rules] if rules else []
    return "\n".join([f"**{outcome.verdict.capitalize()}.** {outcome.reason}", *table])


def main() -> None:
    """Run the flow once and print its results."""
    with by_hand() as console:
        _show(retrain(), console)


def _show(retraining: Retraining, console: Console) -> None:
    for title, rows in zip(TITLES, (retraining.results, retraining.estimates, retraining.adapted), strict=True):
        if rows:
            console.print(_table(title, rows))
    release = retraining.release
    commands = Path(sys.executable).parent
    store = runs.store_uri()
    server = get_current_settings().ui_url
    # Only the project's own store is shown: the address of another may hold a password.
    local = store.startswith("sqlite:")
    mlflow_ui = f"{commands}/mlflow ui --backend-store-uri {store}" if local else "where MLFLOW_TRACKING_URI points"
    console.print(
        f"registered model  {release.name}, version {release.version}: {', '.join(registry.aliases(release))}"
    )
    console.print(f"gate              {retraining.outcome.reason}")
    console.print(f"MLflow UI         {mlflow_ui}")
    console.print(f"Prefect UI        {server or f'{commands}/prefect server start'}")


def _table(title: str, rows: list[dict[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("target", "model", "network") else "right")
    for row in rows:
        table.add_row(*row.values())
    return table


if __name__ == "__main__":
    main()
