"""Make a registered version again from its commit, settings and data, and list the differences.

Only the imported data is used again: DVC's cache of the clone is empty.
"""

import logging
import re
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from qaconv.config import load_recorded_params
from qaconv.errors import InputError
from qaconv.processes import child_environment
from qaconv.registry.releases import Release, find_release, find_run
from qaconv.registry.runs import DVC_LOCK, load_metrics
from qaconv.registry.sites import load_site_metrics, site_stages
from qaconv.registry.starts import fetch_starts
from qaconv.training.device import find_device

log = logging.getLogger(__name__)

PARAMS = Path("params.yaml")
URI = re.compile(r"models:/(?P<name>[A-Za-z0-9_-]+)[@/](?P<version>[A-Za-z0-9_-]+)")
GPU_TOLERANCE = 0.005  # of a metric in [0, 1], as a GPU adds in another order each time


@dataclass(frozen=True)
class Reproduction:
    """The result of a reproduction.

    Attributes:
        release: the version that was made again.
        compared: number of outputs and metrics that were compared.
        differences: one sentence each; empty where everything is equal.
        notes: differences that are allowed, such as the bytes of a network that a GPU trained.
    """

    release: Release
    compared: int
    differences: list[str]
    notes: list[str]


def reproduce(uri: str, project: Path = Path()) -> Reproduction:
    """Make a version again in a clean clone of `project`. It takes as long as the first time.

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.
        project: the project's folder, in a git repository with the version's commit.

    Raises:
        InputError: the version does not exist or was registered without a commit, or a stage fails.
    """
    release = _find(uri)
    with TemporaryDirectory(prefix="qaconv-reproduce-") as folder:
        recorded = Path(folder) / "recorded"
        run = _recorded_run(release, recorded)
        params = load_recorded_params(recorded / PARAMS)
        clone = _clone(project, Path(folder) / "clone", run.data.tags["git_commit"])
        (clone / PARAMS).write_bytes((recorded / PARAMS).read_bytes())
        (clone / DVC_LOCK).unlink(missing_ok=True)  # the new one has only the stages that have run
        fetch_starts(params, clone)
        _run(clone, "dvc", "config", "--local", "cache.dir", str(Path(folder) / "cache"))
        if tracked := _run(clone, "git", "ls-files", "*.dvc").split():
            _run(clone, "dvc", "pull", *tracked)
        log.info("%s: runs its stages of %s in %s", release, run.data.tags["git_commit"][:12], clone)
        stages = site_stages(release.site) if release.site else []  # all, for a version that serves all targets
        _run(clone, "dvc", "repro", "--force", "--no-run-cache", *stages, shown=True)
        old, new = _outputs(recorded / DVC_LOCK), _outputs(clone / DVC_LOCK)
        metrics = load_site_metrics(release.site, clone) if release.site else load_metrics(params, clone)
        on_gpu = find_device(params.machine.device).type != "cpu"
    bytes_differ = [
        f"{path}: was {old.get(path)}, is {digest}" for path, digest in new.items() if old.get(path) != digest
    ]
    known = {name: value for name, value in run.data.metrics.items() if name in metrics}
    missing = [f"{name}: was not recorded" for name in metrics if name not in known]
    values = list(_changed(known, metrics, GPU_TOLERANCE if on_gpu else 0.0))
    differences, notes = ([], bytes_differ) if on_gpu else (bytes_differ, [])
    return Reproduction(release, len(new) + len(metrics), [*differences, *missing, *values], notes)


def _find(uri: str) -> Release:
    parts = URI.fullmatch(uri)
    if parts is None:
        raise InputError(f"{uri}: must be models:/NAME@ALIAS or models:/NAME/VERSION")
    try:
        release = find_release(parts["name"], parts["version"])
    except mlflow.MlflowException as error:
        raise InputError(f"{uri}: {error.message}") from error
    if release is None:
        raise InputError(f"{uri}: not found in the registry")
    return release


def _recorded_run(release: Release, folder: Path) -> mlflow.entities.Run:
    """Return the run that registered a version, and put its params.yaml and dvc.lock into `folder`."""
    run = find_run(release)
    tags = MlflowClient().get_model_version(release.name, release.version).tags
    if tags["git_commit"] == "none" or tags["git_dirty"] == "true":
        raise InputError(f"{release}: cannot be reproduced, as its code was in no commit when it was registered")
    for path in (PARAMS, DVC_LOCK):
        try:
            download_artifacts(run_id=run.info.run_id, artifact_path=str(path), dst_path=str(folder))
        except (OSError, mlflow.MlflowException) as error:
            raise InputError(f"{release}: {path} of its run {run.info.run_id} cannot be read: {error}") from error
    if sha256((folder / DVC_LOCK).read_bytes()).hexdigest() != tags["dvc_lock"]:
        raise InputError(f"{release}: its run's {DVC_LOCK} must be the one that it was registered with")
    return run


def _clone(project: Path, clone: Path, commit: str) -> Path:
    """Clone the repository that the project's folder is in, and return that folder of the clone."""
    root = _run(project, "git", "rev-parse", "--show-toplevel").strip()
    _run(project, "git", "clone", "--quiet", "--no-checkout", root, str(clone))
    _run(clone, "git", "checkout", "--quiet", "--detach", commit)
    cloned_project = clone / _run(project, "git", "rev-parse", "--show-prefix").strip()
    if not (cloned_project / "dvc.yaml").is_file():
        raise InputError(
            f"{commit[:12]}: must have the project in {cloned_project.relative_to(clone)}, has no dvc.yaml"
        )
    # Remotes of this machine alone; their relative paths start at the file.
    dvc_root = _run(project, "dvc", "root").strip()  # relative to the project
    settings = project / dvc_root / ".dvc"
    local = ConfigParser(interpolation=None)
    local.read(settings / "config.local", encoding="utf-8")
    for section in local.values():
        if "://" not in (url := section.get("url", "://")):
            section["url"] = str((settings / url).resolve())
    with (cloned_project / dvc_root / ".dvc/config.local").open("w", encoding="utf-8") as file:
        local.write(file)
    return cloned_project


def _run(folder: Path, *command: str, shown: bool = False) -> str:
    """Run a command with this Python's commands and the folder's code first, and return what it prints."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=child_environment(PYTHONPATH=str(folder.resolve())),
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"`{' '.join(command)}` ended with {done.returncode} {(done.stderr or '').strip()}".rstrip())
    return done.stdout or ""


def _outputs(lock: Path) -> dict[str, str]:
    """Return DVC's digest of each output, by path."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", ())}


def _changed(old: dict[str, float], new: dict[str, float], tolerance: float) -> Iterator[str]:
    for name, value in old.items():
        if abs(new[name] - value) > tolerance:
            yield f"{name}: must be within {tolerance:g} of {value!r}, got {new[name]!r}"
