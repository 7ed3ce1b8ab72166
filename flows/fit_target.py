"""A target's name goes in; its temporal profiles are fitted anew, and what has changed is reported.

`python -m flows.fit_target NAME`, in the project's folder: after a camera was moved or a clock set, or every night.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from rich.console import Console

from flows.fan_out import make_and_push
from flows.retrain import REACHES_A_STORE, Step, flow_tags, run_step
from flows.stages import StageFailed
from qaconv import registry
from qaconv.config import METHODS, Params, load_params
from qaconv.errors import InputError
from qaconv.registry import runs
from qaconv.tlift import TLiftProfile
from qaconv.tlift.profile_diff import compare

PROFILES = Path("artifacts/tlift")


@flow(name="fit_target")
def fit_target(target: str, on_worker: bool = False) -> dict[str, list[str]]:
    """Fits, compares each profile with the one it replaces, and logs it beside the model version it belongs to.

    Args:
        target: its name in params.yaml.
        on_worker: takes what it needs from DVC's remote, and pushes what it has made.

    Returns:
        Changes by method; empty where there was no profile or nothing changed.

    Raises:
        InputError: params.yaml is refused or has no such target.
        StageFailed: the stage has failed; the MLflow run is closed as FAILED.
    """
    params = load_params()
    if target not in params.targets:
        raise InputError(f"params.yaml: targets has no {target!r}; it has {params.targets}")
    paths = {method: PROFILES / target / f"{method}.json" for method in METHODS}
    before = {method: TLiftProfile.load(path) for method, path in paths.items() if path.is_file()}
    with runs.retraining_run(params, {**flow_tags(), "target": target}) as run_id:
        if on_worker:
            make_and_push([f"fit_tlift@{target}"])
        else:
            run_step.with_options(name="fit_tlift")(Step((f"fit_tlift@{target}",)), fan_out=False)
        after = {method: TLiftProfile.load(path) for method, path in paths.items()}
        changes = {method: compare(before[method], after[method]) if method in before else [] for method in METHODS}
        publish(params, target, run_id)
    for method, lines in changes.items():
        for line in lines:
            get_run_logger().warning("%s, %s: %s", target, method, line)
    key = f"tlift-{target.lower().replace('_', '-')}"
    create_table_artifact(_rows(after, changes), key=key, description="temporal profiles")
    return changes


@task(name="publish", **REACHES_A_STORE)
def publish(params: Params, target: str, run_id: str) -> None:
    """Logs the profiles and links them to the versions of the model that they were fitted for."""
    runs.log_profiles(target)
    linked = registry.link_profile(params.registry.model, target, run_id)
    get_run_logger().info("%s: linked to versions %s of %s", target, linked or "none", params.registry.model)


def _rows(profiles: Mapping[str, TLiftProfile], changes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    return [
        {
            "model": method,
            "time": "used" if each.active else "off",
            "why": each.reason,
            "changed": "; ".join(changes[method]),
        }
        for method, each in profiles.items()
    ]


def main() -> None:
    """Runs the flow once."""
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flows.fit_target NAME, one of targets in params.yaml")
    try:
        changes = fit_target(sys.argv[1])
    except (InputError, StageFailed) as error:
        console.print(f"failed: {error}", style="bold red")
        sys.exit(1)
    for method, lines in changes.items():
        console.print(f"{method}: {'; '.join(lines) or 'nothing has changed'}")


if __name__ == "__main__":
    main()
