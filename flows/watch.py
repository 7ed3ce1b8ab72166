"""Sightings that came in since the champion was made go in; how they have drifted is told, and may start a new fit."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment

from flows.events import announce
from flows.stages import pull_tracked
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.data.ingest import TABLE, read_dataset
from qaconv.registry import Release, runs
from qaconv.release.drift import Drift, find_drifts, look

STARTS = {"scores": "retrain/weekly", "matches": "retrain/weekly"}  # what a new model may mend; the rest a new fit
FITS = "fit_deployment/by-hand"


@flow(name="watch")
def watch() -> dict[str, list[Drift]]:
    """Watches every deployment that takes sightings in, each in a run of its own.

    Returns:
        What was found, by deployment.

    Raises:
        InputError: params.yaml is refused, there is no champion, or an image cannot be read.
    """
    params = load_params()
    pull_tracked(get_run_logger())
    growing = [name for name in params.deployments if params.dataset(name).path.name == TABLE]
    return {name: watch_deployment.with_options(flow_run_name=f"watch {name}")(name) for name in growing}


@flow(name="watch_deployment")
def watch_deployment(deployment: str) -> list[Drift]:
    """Compares the newest sightings of one deployment with those that the champion was measured on."""
    params = load_params()
    runs.connect()
    champion = registry.find_champion(params.registry.model)
    drifts, looked_at = _compare(params, deployment, champion)
    said = "; ".join(f"{drift.kind}: {drift.found}" for drift in drifts)
    get_run_logger().info("%s: %s. %s", deployment, looked_at, said or "nothing has drifted")
    lines = [f"**{deployment}**, seen by {champion}: {looked_at}.", "", *(f"- {d.kind}: {d.found}" for d in drifts)]
    create_markdown_artifact("\n".join(lines), key=f"watch-{deployment.lower().replace('_', '-')}")
    if drifts:
        announce("deployment.drifted", deployment, said)
        if params.watch.start:
            _start(deployment, drifts)
    return drifts


def _compare(params: Params, deployment: str, champion: Release) -> tuple[list[Drift], str]:
    """What has drifted, and how much was looked at."""
    dataset = params.dataset(deployment).path.parent
    rows = read_dataset(dataset).query("split != 'train'").sort_values(["arrived", "time_s", "image"])
    old = rows["arrived"] <= datetime.fromtimestamp(registry.started_s(champion), UTC).isoformat()
    windows = [part.tail(params.watch.sightings) for part in (rows[old], rows[~old])]
    looked_at = f"{len(windows[1])} new sightings, {len(windows[0])} from before"
    if min(map(len, windows)) < params.watch.fewest:
        return [], f"{looked_at}, of which {params.watch.fewest} are needed to compare"
    return _drifts(params, deployment, champion, windows, dataset), looked_at


def _drifts(
    params: Params, deployment: str, champion: Release, windows: Sequence[pd.DataFrame], dataset: Path
) -> list[Drift]:
    model, profiles = registry.load_served(champion)
    profile = profiles.get(deployment)
    before, since = (look(model, profile, window, dataset) for window in windows)
    return find_drifts(before, since, profile, params.watch)


def _start(deployment: str, drifts: Sequence[Drift]) -> None:
    """Starts what may mend it, and does not wait."""
    for start in sorted({STARTS.get(drift.kind, FITS) for drift in drifts}):
        run_deployment(start, parameters={"deployment": deployment} if start == FITS else None, timeout=0)
        get_run_logger().info("%s: %s is started", deployment, start)
