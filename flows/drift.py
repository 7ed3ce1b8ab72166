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
from qaconv.release.drift import Drift, find_drifts, match_window

STARTS = {"scores": "retrain/weekly", "matches": "retrain/weekly"}  # what a new model may mend; the rest a new fit
FITS = "fit_target/by-hand"


@flow(name="drift")
def drift() -> dict[str, list[Drift]]:
    """Compare the new sightings of every target that grows with the older ones, each in a run of its own.

    Returns:
        What was found, by target.

    Raises:
        InputError: params.yaml is refused, there is no champion, or an image cannot be read.
    """
    params = load_params()
    pull_tracked(get_run_logger())
    growing = [name for name in params.targets if params.dataset(name).path.name == TABLE]
    return {name: drift_of_target.with_options(flow_run_name=f"drift {name}")(name) for name in growing}


@flow(name="drift_of_target")
def drift_of_target(target: str) -> list[Drift]:
    """Compares the newest sightings of one target with those that the champion was measured on."""
    params = load_params()
    runs.connect()
    champion = registry.find_champion(params.registry.model)
    drifts, looked_at = _compare(params, target, champion)
    said = "; ".join(f"{each.kind}: {each.detail}" for each in drifts)
    get_run_logger().info("%s: %s. %s", target, looked_at, said or "nothing has drifted")
    lines = [f"**{target}**, seen by {champion}: {looked_at}.", "", *(f"- {d.kind}: {d.detail}" for d in drifts)]
    create_markdown_artifact("\n".join(lines), key=f"drift-{target.lower().replace('_', '-')}")
    if drifts:
        announce("target.drifted", target, said)
        if params.drift.start:
            _start(target, drifts)
    return drifts


def _compare(params: Params, target: str, champion: Release) -> tuple[list[Drift], str]:
    """What has drifted, and how much was looked at."""
    dataset = params.dataset(target).path.parent
    rows = read_dataset(dataset).query("split != 'train'").sort_values(["arrived", "time_s", "image"])
    old = rows["arrived"] <= datetime.fromtimestamp(registry.started_s(champion), UTC).isoformat()
    windows = [part.tail(params.drift.sightings) for part in (rows[old], rows[~old])]
    looked_at = f"{len(windows[1])} new sightings, {len(windows[0])} from before"
    if min(map(len, windows)) < params.drift.fewest:
        return [], f"{looked_at}, of which {params.drift.fewest} are needed to compare"
    return _drifts(params, target, champion, windows, dataset), looked_at


def _drifts(
    params: Params, target: str, champion: Release, windows: Sequence[pd.DataFrame], dataset: Path
) -> list[Drift]:
    model, profiles = registry.load_served(champion)
    profile = profiles.get(target)
    before, since = (match_window(model, profile, window, dataset) for window in windows)
    return find_drifts(before, since, profile, params.drift)


def _start(target: str, drifts: Sequence[Drift]) -> None:
    """Starts what may mend it, and does not wait."""
    for start in sorted({STARTS.get(drift.kind, FITS) for drift in drifts}):
        run_deployment(start, parameters={"target": target} if start == FITS else None, timeout=0)
        get_run_logger().info("%s: %s is started", target, start)
