"""Compare each target's new sightings with those that the champion was measured on, and report drift.

With `drift.start` in params.yaml, drift also starts a retraining, an adaptation of targets in `adapt.targets`, or a new
fit of the temporal profiles.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment

from flows.events import announce
from flows.stages import pull_tracked
from qaconv import registry
from qaconv.config import Params, load_params
from qaconv.data.ingest_dataset import TABLE, read_dataset
from qaconv.errors import InputError
from qaconv.registry import Release, runs
from qaconv.release.drift import Drift, find_drifts, match_window, number_cameras

REFIT, ADAPT, RETRAIN = "fit_target/by-hand", "adapt/by-hand", "retrain/weekly"
NEW_NETWORK = ("scores", "matches")  # kinds of drift that a new network may correct; a new fit may correct the others


@flow(name="drift")
def drift() -> dict[str, list[Drift]]:
    """Compare new sightings with older ones, in a flow run of its own for every target that ingests.

    Returns:
        The drifts of each target.

    Raises:
        InputError: params.yaml is invalid, there is no champion, or an image cannot be read.
    """
    params = load_params()
    pull_tracked(get_run_logger())
    targets = [name for name in params.targets if params.dataset(name).path.name == TABLE]
    return {name: drift_of_target.with_options(flow_run_name=f"drift {name}")(name) for name in targets}


@flow(name="drift_of_target")
def drift_of_target(target: str) -> list[Drift]:
    """Compare the newest sightings of a target with those that the champion was measured on."""
    params = load_params()
    runs.use_store()
    champion = registry.find_champion(params.registry.model, target)
    drifts, counts = _compare(params, target, champion)
    summary = "; ".join(f"{drift.kind}: {drift.detail}" for drift in drifts)
    get_run_logger().info("%s: %s. %s", target, counts, summary or "no drift")
    lines = [f"**{target}**, encoded by {champion}: {counts}.", ""]
    lines += [f"- {drift.kind}: {drift.detail}" for drift in drifts]
    create_markdown_artifact("\n".join(lines), key=f"drift-{target.lower().replace('_', '-')}")
    if drifts:
        announce("target.drifted", target, summary)
        if params.drift.start:
            _start_corrections(params, target, drifts)
    return drifts


def _compare(params: Params, target: str, champion: Release) -> tuple[list[Drift], str]:
    """Return the drifts, and a phrase that says how many sightings were compared."""
    dataset = params.dataset(target).path.parent
    table = read_dataset(dataset)
    rows = table.rows.query("split != 'train'").sort_values(["arrived", "time_s", "image"])
    old = rows["arrived"] <= datetime.fromtimestamp(registry.started_s(champion), UTC).isoformat()
    windows = [part.tail(params.drift.sightings) for part in (rows[old], rows[~old])]
    counts = f"{len(windows[1])} new sightings, {len(windows[0])} older ones"
    if min(map(len, windows)) < params.drift.fewest:
        return [], f"{counts}; the comparison needs {params.drift.fewest} of each"
    model, profiles = registry.load_served(champion)
    profile = profiles.get(target)
    if profile and profile.span_s and profile.time_origin != table.time_origin and rows["time_s"].notna().any():
        kinds = {True: "dates", False: "seconds on the cameras' clocks"}
        raise InputError(
            f"{dataset / TABLE}: times must be {kinds[bool(profile.time_origin)]} as in the profile of {champion}, "
            f"got {kinds[bool(table.time_origin)]}; evaluate and promote a version on the new table"
        )
    camids, cameras = number_cameras(rows["camera"], profile)
    before, since = (
        match_window(model, profile, window.assign(camid=camids[window.index]), dataset) for window in windows
    )
    return find_drifts(before, since, profile, params.drift, cameras), counts


def _start_corrections(params: Params, target: str, drifts: Sequence[Drift]) -> None:
    """Start the deployments that may correct the drifts, without waiting for them.

    A target of `adapt.targets` gets a network of its own instead of a retraining of all.
    """
    network = ADAPT if target in params.adapt.targets else RETRAIN
    for deployment in sorted({network if drift.kind in NEW_NETWORK else REFIT for drift in drifts}):
        run_deployment(deployment, parameters=None if deployment == RETRAIN else {"target": target}, timeout=0)
        get_run_logger().info("%s: started %s", target, deployment)
