"""A project with datasets that accept batches, as `make up` keeps it: an origin and a worker's clone."""

import subprocess
from pathlib import Path

import yaml

from tests.tracked_projects import REPOSITORY, commit_all, write


def write_ingest_project(folder: Path, remote: str) -> Path:
    """Write `origin` with the datasets `shop` and `quay`, and return its clone.

    Args:
        folder: where both are written.
        remote: address of DVC's remote.
    """
    origin, clone = folder / "origin", folder / "clone"
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    for name in ("shop", "quay"):
        settings["datasets"][name] = {"layout": "table", "path": f"data/raw/{name}/sightings.csv"}
    settings["ingest"]["wait_hours"] = 0
    write(origin / "params.yaml", yaml.safe_dump(settings))
    write(origin / ".gitignore", (REPOSITORY / ".gitignore").read_text(encoding="utf-8"))
    config = f"[core]\n    analytics = false\n    remote = store\n['remote \"store\"']\n    url = {remote}\n"
    write(origin / ".dvc/config", config)
    commit_all(origin)
    subprocess.run(["git", "config", "receive.denyCurrentBranch", "updateInstead"], cwd=origin, check=True)
    subprocess.run(["git", "clone", "--quiet", origin, clone], check=True)
    return clone
