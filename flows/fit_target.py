"""Fit a target's temporal profiles again, and report what has changed.

`python -m flows.fit_target NAME`, in the project's folder: after a camera was moved or a clock was set, or every night.
"""

from collections.abc import Mapping
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact

from flows.by_hand import by_hand, read_target, require_target
from flows.fan_out import make_and_push
from flows.retrain import RETRY_STORE, flow_tags, run_step
from flows.steps import Step
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.registry import runs
from qaconv.tlift import TLiftProfile
from qaconv.tlift.profile_diff import compare

PROFILES = Path("artifacts/tlift")


@flow(name="fit_target")
def fit_target(target: str, on_worker: bool = False) -> dict[str, list[str]]:
    """Fit, compare each profile with the one that it replaces, and log it with the model version it belongs to.

    Args:
        target: name in params.yaml.
        on_worker: pull inputs from DVC's remote, and push the profiles to it. Default: work in this folder alone.

    Returns:
        Changes by method; empty if there was no profile before or nothing changed.

    Raises:
        InputError: params.yaml is invalid, or has no such target.
        StageFailed: the stage has failed; the MLflow run is closed as FAILED.
    """
    params = load_params()
    _require_target(params, target)
    paths = {method: PROFILES / target / f"{method}.json" for method in params.methods}
    before = {method: TLiftProfile.load(path) for method, path in paths.items() if path.is_file()}
    with runs.retraining_run(params, {**flow_tags(), "target": target}) as run_id:
        if on_worker:
            make_and_push([f"fit_tlift@{target}"])
        else:
            step = Step((f"fit_tlift@{target}",), together=True)
            run_step.with_options(name="fit_tlift")(step, fan_out=False)
        after = {method: TLiftProfile.load(path) for method, path in paths.items()}
        changes = {
            method: compare(before[method], after[method]) if method in before else [] for method in params.methods
        }
        publish(params, target, run_id)
    for method, lines in changes.items():
        for line in lines:
            get_run_logger().warning("%s, %s: %s", target, method, line)
    key = f"tlift-{target.lower().replace('_', '-')}"
    create_table_artifact(_profile_rows(after, changes), key=key, description="temporal profiles")
    return changes


@task(name="publish", **RETRY_STORE)
def publish(params: Params, target: str, run_id: str) -> None:
    """Log the profiles, and link them to the versions of the model that they were fitted for."""
    runs.log_profiles(target)
    linked = registry.link_profile(params.registry, target, run_id)
    get_run_logger().info("%s: linked to versions %s of %s", target, linked or "none", params.registry.model)


def _require_target(params: Params, target: str) -> None:
    require_target(target, "targets", params.targets)


def _profile_rows(profiles: Mapping[str, TLiftProfile], changes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    return [
        {
            "model": method,
            "time": "used" if profile.active else "off",
            "why": profile.reason,
            "changed": "; ".join(changes[method]),
        }
        for method, profile in profiles.items()
    ]


def main() -> None:
    """Run the flow once and print the changes."""
    target = read_target("fit_target", "targets")
    with by_hand(lambda params: _require_target(params, target)) as console:
        for method, lines in fit_target(target).items():
            console.print(f"{method}: {'; '.join(lines) or 'no change'}")


if __name__ == "__main__":
    main()
