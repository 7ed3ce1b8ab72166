"""Adapt the network to a target without labels, register the result, and promote it to the target's champion.

`python -m flows.adapt NAME`, in the project's folder: after a retraining, or when the target has drifted.
"""

import sys

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from rich.console import Console

from flows.by_hand import exit_with_one_message, require_servers
from flows.fan_out import MAX_CRASHES, RETRY_REMOTE
from flows.params import change_params
from flows.retrain import RETRY_STORE, flow_tags, promote, promotion_page, run_step
from flows.stages import StageFailed, pull_tracked
from flows.steps import Step
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.errors import InputError
from qaconv.registry import runs, sites, starts
from qaconv.release.gate import Outcome


@flow(name="adapt")
def adapt(target: str, fan_out: bool = False) -> tuple[registry.Release, Outcome]:
    """Run the stages of a target's network, register it, and promote it if it is better by evidence without labels.

    Args:
        target: one of `adapt.targets` in params.yaml.
        fan_out: run the stages on a worker, in a clone of its own. Default: in this process.

    Raises:
        InputError: params.yaml is invalid, or `adapt.targets` lacks the target.
        StageFailed: a stage has failed; the MLflow run is closed as FAILED.
    """
    if flow_run.run_count > MAX_CRASHES:
        raise StageFailed(f"{MAX_CRASHES} workers have died while they ran it")
    params = load_params()
    _require_adapted(params, target)
    if fan_out:
        pull_tracked(get_run_logger())
        change_params(starts.champions_recipe(params))  # the worker's clone is checked out again; a person's is kept
        params = load_params()
    starts.fetch_starts(params)
    with runs.retraining_run(params, {**flow_tags(), "target": target}):
        step = Step(tuple(sites.site_stages(target)), pool="gpu", together=True)
        run_step.with_options(name=f"adapt {target}", **(RETRY_REMOTE if fan_out else {}))(step, fan_out)
        release = register(params, target)
        outcome = promote(params, release)
    create_markdown_artifact(promotion_page(outcome), key=f"adapt-{target.lower().replace('_', '-')}")
    return release, outcome


@task(name="register", **RETRY_STORE)
def register(params: Params, target: str) -> registry.Release:
    """Log what was adapted and register it; an unchanged dvc.lock returns the version that exists."""
    sites.log_adaptation(target)
    return sites.register_adapted(params, target)


def _require_adapted(params: Params, target: str) -> None:
    if target not in params.adapt.targets:
        allowed = ", ".join(params.adapt.targets) or "none; name it there"
        raise InputError(f"params.yaml: adapt.targets has no {target!r}, allowed: {allowed}")


def main() -> None:
    """Run the flow once and print its outcome."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flows.adapt NAME, one of adapt.targets in params.yaml")
    with exit_with_one_message(console):
        _require_adapted(load_params(), sys.argv[1])  # before Prefect starts a server
        require_servers()
        release, outcome = adapt(sys.argv[1])
    aliases = ", ".join(registry.aliases(release))
    console.print(f"registered model  {release.name}, version {release.version}: {aliases}\n{outcome.reason}")


if __name__ == "__main__":
    main()
