"""Stages go in; workers in clones of their own have brought them up to date, and the results are in DVC's remote.

The clone that asks pulls them by DVC's run cache when it runs `dvc repro` itself, and so writes dvc.lock as if it had
done the work: no file and no digest goes by another way.
"""

import json
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.concurrency.sync import concurrency
from prefect.deployments import run_deployment
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.states import State
from prefect.tasks import exponential_backoff

from flows.stages import StageFailed, dvc_environment, pull_tracked, reproduce, run_dvc
from qaconv.registry import runs

PARAMS = Path("params.yaml")
CRASHES = 3  # of workers over one and the same run; then the fault is not the workers'
POLL_S = 1.0  # between two looks at whether a worker is done
LEASE_S = 90.0  # of a slot: as long as a run without heartbeats is not yet called crashed
SLOTS = {"gpu": "gpu"}  # the concurrency limit that a pool's stages take a slot of

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def _may_pass(task: Any, task_run: Any, state: State) -> bool:
    """The remote may be back in a moment; what a stage refuses, a person must mend."""
    return "refused: " not in str(state.result(raise_on_failure=False))


ASKS_THE_REMOTE: dict[str, Any] = {
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_condition_fn": _may_pass,
}


def spread(stages: Sequence[str], pool: str, *, together: bool, log: Logger) -> None:
    """Runs what is out of date on the workers of a pool, each target's stages on one that is free.

    Args:
        stages: names in dvc.yaml, in their order; what else they depend on is up to date, unless they go together.
        pool: a work pool with a deployment `stage/<pool>`.
        together: on one worker, with what they depend on.
        log: says what is up to date.

    Raises:
        StageFailed: a stage has failed on its worker, whose flow run says why.
    """
    outdated = find_outdated(stages, with_deps=together)
    if not outdated:
        log.info("%s: up to date, nothing is run", ", ".join(stages))
        return
    units = [list(stages)] if together else share_out(stages, outdated)
    futures = [run_on_worker.with_options(name=" ".join(unit)).submit(unit, pool) for unit in units]
    wait(futures)
    for future in futures:
        future.result()


def share_out(stages: Sequence[str], outdated: Sequence[str]) -> list[list[str]]:
    """What one worker each does: a stage without a target, or all stages of a target, as they depend on each other.

    Args:
        stages: names in dvc.yaml, in their order.
        outdated: those of them to be done, each with its target.
    """
    targets = dict.fromkeys(target for name in outdated if (target := name.partition("@")[2]))
    alone = [[name] for name in outdated if "@" not in name]
    return alone + [[f"{stage}@{target}" for stage in stages] for target in targets]


def find_outdated(stages: Sequence[str], *, with_deps: bool) -> list[str]:
    """Those of the stages, and of what they depend on if asked for, whose outputs are not what dvc.lock says."""
    command = ["dvc", "status", "--json", *(["--with-deps"] if with_deps else []), *stages]
    done = subprocess.run(command, env=dvc_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(done.stderr.strip() or f"{' '.join(command)} ended with {done.returncode}")
    return list(json.loads(done.stdout))


@task(cache_policy=NO_CACHE)
def run_on_worker(stages: list[str], pool: str) -> None:
    """Waits for a worker to do it; one that dies is replaced, and a training goes on where it was."""
    for attempt in range(CRASHES):
        waited = run_deployment(
            f"stage/{pool}",
            flow_run_name=" ".join(stages),
            parameters={"stages": stages, "params": PARAMS.read_text(encoding="utf-8"), "pool": pool},
            poll_interval=POLL_S,
            job_variables={"env": {"QACONV_COMMIT": runs.git_tags()["git_commit"]}},
            # A flow that is taken up again after a crash finds the runs that it has asked for.
            idempotency_key=f"{flow_run.root_flow_run_id}-{'-'.join(stages)}-{attempt}",
        )
        assert isinstance(waited, FlowRun)  # a coroutine only where there is an event loop
        state = waited.state
        if state is not None and state.is_completed():
            return
        if state is None or not state.is_crashed():
            raise StageFailed(f"{waited.name}: {state.message if state else 'has no state'}")
    raise StageFailed(f"{' '.join(stages)}: {CRASHES} workers have died over it")


@flow(name="stage")
def stage(stages: list[str], params: str, pool: str) -> None:
    """On a worker, in its clone: makes the stages' outputs and pushes them; whatever was made before is pulled.

    Args:
        stages: names in dvc.yaml.
        params: content of params.yaml.
        pool: the worker's, whose slots are waited for.
    """
    PARAMS.write_text(params, encoding="utf-8")
    if pool in SLOTS:
        # A dead worker's slot is free again soon; a training goes on though the server is away for longer.
        slot = concurrency(SLOTS[pool], strict=True, lease_duration=LEASE_S, raise_on_lease_renewal_failure=False)
        with slot:
            make_and_push(stages)
    else:
        make_and_push(stages)


@task(cache_policy=NO_CACHE, **ASKS_THE_REMOTE)
def make_and_push(stages: list[str]) -> None:
    """A stage that is done is not done again by a further try: DVC knows it."""
    log = get_run_logger()
    pull_tracked(log)
    reproduce(stages, log, pull=True)
    run_dvc(["push", "--run-cache", "--with-deps", *stages], log)
