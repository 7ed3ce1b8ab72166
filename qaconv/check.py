"""Check what the commands need, in seconds: settings, data, servers, disk, packages and what DVC would recompute.

A check is a function that returns what it has found, or raises an error that says what is wrong and what to do. All
run side by side, each in a process, so that imports take one second and not five, and one that hangs is ended after its
time.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic

from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from qaconv.config import DatasetConfig, Params, load_params
from qaconv.config.kinds import MethodSettings
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError, name_first
from qaconv.failures import explain, require_answer
from qaconv.paths import MODELS, PREPARED, RAW
from qaconv.processes import child_environment
from qaconv.stages.sources import require_use

LOCK = Path("requirements.lock")
OUTPUTS = (Path("data"), Path("artifacts"))


@dataclass(frozen=True)
class Check:
    """A check, its name and the seconds after which it is given up; others run at the same time."""

    name: str
    call: Callable[[], str]
    seconds: float = 30.0


class Running:
    """A check that runs in a process."""

    def __init__(self, check: Check) -> None:
        context = get_context("fork")  # a new interpreter would import this module's packages again
        self._seconds = check.seconds
        self._started = monotonic()
        self._answer, answer = context.Pipe(duplex=False)
        self._process = context.Process(target=_send_result, args=(check.call, answer), daemon=True)
        self._process.start()
        answer.close()

    def result(self) -> tuple[bool, str]:
        """Wait for the check; return whether it has passed, and its text."""
        remaining = self._started + self._seconds - monotonic()
        try:
            if self._answer.poll(max(0.0, remaining)):
                passed, text = self._answer.recv()
                return passed, text
        except EOFError:
            return False, "its process ended without a result"
        finally:
            self._process.kill()
        return False, f"no result within {self._seconds:g} s"


def check_all() -> bool:
    """Run every check and print a line for each; return whether nothing is wrong."""
    console = Console(soft_wrap=True, highlight=False)
    good = True
    running = [(check, Running(check)) for check in _checks()]
    for check, process in running:
        passed, text = process.result()
        state = ("ok", "green") if passed else ("wrong", "bold red")
        console.print(Text.assemble((f"{state[0]:6}", state[1]), f"{check.name}: {text}"))
        good = good and passed
    return good


def _send_result(call: Callable[[], str], answer: Connection) -> None:
    try:
        result = True, call()
    except Exception as error:
        result = False, explain(error) or f"{type(error).__name__}: {error}"
    answer.send(result)


def _checks() -> Iterator[Check]:
    yield Check("params.yaml", _check_params)
    try:
        params = load_params()
    except InputError:
        pass  # what depends on the settings cannot be checked
    else:
        yield Check("network", partial(_check_network, params), seconds=60)
        for name, dataset in params.datasets.items():
            yield Check(f"dataset {name}", partial(_check_dataset, params, name, dataset))
        if find_spec("mlflow"):
            yield Check("MLflow", partial(_check_store, params), seconds=60)
    yield Check("Prefect", _check_prefect)
    yield Check("disk", _check_disk)
    yield Check("packages", _check_packages)
    if find_spec("dvc"):
        yield Check("stages", _check_stages, seconds=60)


def _check_params() -> str:
    params = load_params()
    return f"{len(params.datasets)} datasets, targets {', '.join(params.targets)}"


def _check_network(params: Params) -> str:
    """Build the network of each method, whose backbone must take the image size, and read its weights.

    One that was trained as it is set has been built before, and torch's import takes longer than all other checks.
    """
    lines = []
    for name, method in params.methods.items():
        weights = method.backbone.weights
        if not _was_trained(MODELS / name / "model.json", method):
            if weights == "imagenet":  # a training downloads them
                method = method.model_copy(update={"backbone": method.backbone.model_copy(update={"weights": "none"})})
            try:
                method.build(params.seed)
            except InputError as error:
                raise InputError(f"methods.{name}: {error}") from error
        lines.append(f"{name} takes images of {method.image.height} x {method.image.width}, weights {weights}")
    return "; ".join(lines)


def _was_trained(description: Path, method: MethodSettings) -> bool:
    """Return whether a saved network was trained by these settings, and began with no file, which may change."""
    try:
        saved = json.loads(description.read_text(encoding="utf-8"))["trained"]["method"]
    except (OSError, ValueError, KeyError, TypeError):  # none is saved, or it is damaged
        return False
    return saved == method.model_dump(mode="json") and method.backbone.weights in ("none", "imagenet")


def _check_dataset(params: Params, name: str, dataset: DatasetConfig) -> str:
    if not dataset.path.exists() and dataset.path in [RAW / site for site in params.sites]:
        return "`dvc repro` renders it"
    _require_readable(dataset.path, f"datasets.{name}.path")
    if not (PREPARED / name).exists():
        return f"{dataset.path} is readable; `dvc repro prepare` prepares it"
    manifest = Manifest.load(PREPARED / name)
    require_use(params, name, manifest)
    return f"{len(manifest.frame)} images are prepared"


def _require_readable(path: Path, key: str) -> None:
    """Check that a file, or a folder and the folders in it, can be read."""
    if not path.exists():
        raise InputError(f"{path}: does not exist; correct {key} in params.yaml")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise InputError(f"{path}: this user must be able to read it; see `ls -ld {path}`")
    with os.scandir(path) if path.is_dir() else nullcontext(()) as entries:  # which asks nothing about each image
        for entry in entries:
            if entry.is_dir():
                _require_readable(Path(entry.path), key)


def _check_store(params: Params) -> str:
    """Check that the store answers, and that the champion can be loaded."""
    from qaconv import registry
    from qaconv.registry import runs

    runs.connect()
    name = params.registry.experiment
    experiment = f"experiment {name} {'exists' if runs.find_experiment(name) else 'will be created'}"
    if not registry.is_registered(params.registry.model):
        return f"{experiment}; no model {params.registry.model} yet, the flow retrain registers one"
    champion = registry.find_champion(params.registry.model)
    registry.load_served(champion)
    return f"{experiment}; the champion, {champion}, can be loaded"


def _check_prefect() -> str:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return "PREFECT_API_URL is not set, so a flow starts a temporary server"
    require_answer("PREFECT_API_URL", url, "/health")
    return f"{url} answers"


def _check_disk() -> str:
    """Check that the folder can be written to, and has space for what is there once more, as a new run needs."""
    if not os.access(Path(), os.W_OK | os.X_OK):
        raise InputError(f"{Path().resolve()}: this user must be able to write into it")
    for folder in filter(Path.exists, OUTPUTS):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: this user must be able to write into it; see `ls -ld {folder}`")
    used = sum(file.lstat().st_size for folder in OUTPUTS for file in folder.rglob("*") if not file.is_dir())
    free = shutil.disk_usage(Path()).free
    sizes = f"{free / 1e9:.1f} GB free, data and artifacts have {used / 1e9:.1f} GB"
    if free < used:
        raise InputError(f"{sizes}: a new run may need as much again; free space, such as by `dvc gc --workspace`")
    return sizes


def _check_packages() -> str:
    """Compare the installed packages with requirements.lock; those of extras may be missing."""
    if not LOCK.is_file():
        return f"no {LOCK} to compare with"
    lines = LOCK.read_text(encoding="utf-8").splitlines()  # a package each, and its hashes in the lines below it
    required = [Requirement(line.removesuffix(" \\")) for line in lines if line[:1].isalnum()]
    required = [entry for entry in required if entry.marker is None or entry.marker.evaluate()]
    installed = [(entry, version) for entry in required if (version := _installed_version(entry.name))]
    other = [
        f"{entry.name}: must be {entry.specifier}, got {version}"
        for entry, version in installed
        if not entry.specifier.contains(version, prereleases=True)
    ]
    if other:
        raise InputError(
            f"{LOCK} has other versions; `pip install --no-deps -r {LOCK}` installs them:{name_first(other)}"
        )
    return f"{len(installed)} have the versions of {LOCK}"


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_stages() -> str:
    """List the stages that `dvc repro` would run."""
    command = ["dvc", "status", "--json"]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    outdated = [name for name in json.loads(done.stdout) if not name.endswith(".dvc")]
    if not outdated:
        return "all are up to date"
    return f"`dvc repro` would run {len(outdated)}:{name_first(outdated)}"
