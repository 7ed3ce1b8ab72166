"""Run stages on workers, each in a clone of its own, and exchange the results through DVC's remote.

The clone that asks then runs `dvc repro --pull` itself: it finds every result in DVC's run cache, and writes dvc.lock
as if it had done the work. No file and no digest is passed in another way.
"""

import json
import logging
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.concurrency.sync import concurrency
from prefect.deployments import run_deployment
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from flows.stages import StageFailed, dvc_environment, pull_tracked, reproduce, run_dvc, run_logged
from qaconv.config import load_params
from qaconv.registry import runs, starts

PARAMS = Path("params.yaml")
MAX_CRASHES = 3  # workers that may die over the same run; after that the fault is not the workers'
POLL_S = 1.0  # seconds between two looks at a worker's run
LEASE_S = 90.0  # seconds that a dead worker's slot stays taken: as long as until its run is marked Crashed
CONCURRENCY_LIMITS = {"gpu": "gpu"}  # by pool: the limit that its stages take a slot of

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def _is_worth_a_retry(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Return False where a stage refused its input, which only a person can correct; the remote may answer again."""
    return "refused: " not in str(state.result(raise_on_failure=False))


RETRY_REMOTE: dict[str, Any] = {
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_condition_fn": _is_worth_a_retry,
}


def spread(stages: Sequence[str], pool: str, *, together: bool, log: Logger, parts: int = 1) -> None:
    """Run outdated stages on the workers of a pool, each target's stages on one worker.

    With several parts, as many workers share the work of each target before: what they leave in `machine.blocks` is
    what the worker that then runs the stage finds there. Where they have no folder in common, it does all the work.

    Args:
        stages: names in dvc.yaml, in its order; the stages that they depend on are up to date, unless `together`.
        pool: work pool with a deployment `stage/<pool>`.
        together: run all stages on one worker, with the stages that they depend on.
        log: logger that reports up-to-date stages.
        parts: number of workers that share the work of a target. Default: 1.

    Raises:
        StageFailed: a stage has failed on its worker; the worker's flow run says why.
    """
    outdated = find_outdated(stages, with_deps=together)
    if not outdated:
        log.info("%s: up to date, nothing is run", ", ".join(stages))
        return
    units = [list(stages)] if together else divide(stages, outdated)
    if parts > 1:
        _wait_for(
            run_on_worker.with_options(name=f"{unit[0]} {part}/{parts}").submit(unit, pool, part)
            for unit in units
            for part in range(1, parts + 1)
        )
    _wait_for(run_on_worker.with_options(name=" ".join(unit)).submit(unit, pool) for unit in units)


def _wait_for(runs_on_workers: Iterable[PrefectFuture[None]]) -> None:
    """Wait for all runs on workers, and raise the error of the first that has failed."""
    futures = list(runs_on_workers)
    wait(futures)
    for future in futures:
        future.result()


def divide(stages: Sequence[str], outdated: Sequence[str]) -> list[list[str]]:
    """Return the units of work, one for each worker: a stage without a target, or all stages of a target.

    A target's stages depend on each other, so they go to one worker.

    Args:
        stages: names in dvc.yaml, in its order.
        outdated: the outdated ones, each with its target.
    """
    targets = dict.fromkeys(target for name in outdated if (target := name.partition("@")[2]))
    single = [[name] for name in outdated if "@" not in name]
    return single + [[f"{stage}@{target}" for stage in stages] for target in targets]


def find_outdated(stages: Sequence[str], *, with_deps: bool) -> list[str]:
    """Return the stages whose outputs differ from dvc.lock.

    Args:
        stages: names in dvc.yaml.
        with_deps: also look at the stages that they depend on.

    Raises:
        StageFailed: DVC has failed, such as for an unknown stage.
    """
    command = ["dvc", "status", "--json", *(["--with-deps"] if with_deps else []), *stages]
    process = subprocess.run(command, env=dvc_environment(), capture_output=True, text=True, check=False)
    if process.returncode:
        raise StageFailed(process.stderr.strip() or f"{' '.join(command)} ended with {process.returncode}")
    return list(json.loads(process.stdout))


@task(cache_policy=NO_CACHE)
def run_on_worker(stages: list[str], pool: str, part: int | None = None) -> None:
    """Run stages on a worker and wait; if the worker dies, another one continues, and a training resumes.

    Args:
        stages: names in dvc.yaml.
        pool: the worker's pool.
        part: of a match that several workers share. Default: the stages run as DVC runs them.

    Raises:
        StageFailed: the run has failed, or MAX_CRASHES workers have died.
    """
    name = " ".join([*stages, *([f"part {part}"] if part else [])])
    for attempt in range(MAX_CRASHES):
        run = run_deployment(
            f"stage/{pool}",
            flow_run_name=name,
            parameters={"stages": stages, "params": PARAMS.read_text(encoding="utf-8"), "pool": pool, "part": part},
            poll_interval=POLL_S,
            job_variables={"env": {"QACONV_COMMIT": runs.git_tags()["git_commit"]}},
            # A retraining that is restarted after a crash finds the runs that it had created.
            idempotency_key=f"{flow_run.root_flow_run_id}-{name.replace(' ', '-')}-{attempt}",
        )
        assert isinstance(run, FlowRun)  # a coroutine only where there is an event loop
        state = run.state
        if state is not None and state.is_completed():
            return
        if state is None or not state.is_crashed():
            raise StageFailed(f"{run.name}: {state.message if state else 'has no state'}")
    raise StageFailed(f"{' '.join(stages)}: {MAX_CRASHES} workers have died while they ran it")


@flow(name="stage")
def stage(stages: list[str], params: str, pool: str, part: int | None = None) -> None:
    """Run stages in a worker's clone and push their outputs; pull what was made before.

    Args:
        stages: names in dvc.yaml.
        params: content of params.yaml.
        pool: the worker's pool; the run waits for a slot of its concurrency limit.
        part: of a match that several workers share; its files go to `machine.blocks` and not to DVC. Default: none.
    """
    PARAMS.write_text(params, encoding="utf-8")
    starts.fetch_starts(load_params())
    if pool in CONCURRENCY_LIMITS:
        # A dead worker's slot is soon free again; a training continues even if the server is down for longer.
        limit = CONCURRENCY_LIMITS[pool]
        with concurrency(limit, strict=True, lease_duration=LEASE_S, raise_on_lease_renewal_failure=False):
            make_and_push(stages)
    elif part is not None:
        match_part(stages, part)
    else:
        make_and_push(stages)


@task(cache_policy=NO_CACHE, **RETRY_REMOTE)
def match_part(stages: list[str], part: int) -> None:
    """Match a part of each target's pairs of blocks; a retry matches no finished pair again."""
    log = get_run_logger()
    for name in stages:
        target = name.partition("@")[2]
        reproduce([f"features@{target}"], log, pull=True)
        run_logged(["qaconv", "match", "--target", target, "--part", str(part)], log)


@task(cache_policy=NO_CACHE, **RETRY_REMOTE)
def make_and_push(stages: list[str]) -> None:
    """Run stages and push their outputs; a retry runs no finished stage again, as DVC knows it."""
    log = get_run_logger()
    pull_tracked(log)
    reproduce(stages, log, pull=True)
    run_dvc(["push", "--run-cache", "--with-deps", *stages], log)
