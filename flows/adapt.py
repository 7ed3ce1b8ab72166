"""Adapt the network to a target without labels, register the result, and promote it to the target's champion.

`python -m flows.adapt NAME`, in the project's folder: after a retraining, or when the target has drifted.
"""

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.by_hand import by_hand, read_target, require_target
from flows.fan_out import MAX_CRASHES, RETRY_REMOTE
from flows.params import change_params
from flows.retrain import RETRY_STORE, flow_tags, promote, promotion_page, run_step
from flows.stages import StageFailed, pull_tracked
from flows.steps import Step
from qaconv import registry
from qaconv.config import Params, load_params
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
    require_target(target, "adapt.targets", params.adapt.targets)


def main() -> None:
    """Run the flow once and print its outcome."""
    target = read_target("adapt", "adapt.targets")
    with by_hand(lambda params: _require_adapted(params, target)) as console:
        release, outcome = adapt(target)
        aliases = ", ".join(registry.aliases(release))
        console.print(f"registered model  {release.name}, version {release.version}: {aliases}\n{outcome.reason}")


if __name__ == "__main__":
    main()
