"""Let a training begin with the champion's network: `backbone.weights: champion` of a method.

The word is replaced by the name of a file with the version's number before anything runs. So params.yaml says what a
training began with, DVC sees when it changes, and workers and reproductions fetch the same file from the registry.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.artifacts import download_artifacts

from qaconv.config import Params, load_recorded_params
from qaconv.config.kinds import MethodSettings
from qaconv.errors import InputError
from qaconv.files import replacing_file
from qaconv.paths import WEIGHTS
from qaconv.registry.releases import find_champion, find_release, find_run
from qaconv.registry.runs import NETWORK, use_store
from qaconv.training.methods import CHAMPION, CHAMPION_FILE

PARAMS = Path("params.yaml")


def number_starts(params: Params) -> dict[str, str]:
    """Return the values of params.yaml, by dotted key, that name the present champion's file in place of `champion`.

    Raises:
        InputError: there is no champion.
    """
    methods = [name for name, method in params.methods.items() if method.backbone.weights == CHAMPION]
    if not methods:
        return {}
    use_store()
    file = f"{CHAMPION}-{find_champion(params.registry.model).version}.safetensors"
    return {f"methods.{name}.backbone.weights": file for name in methods}


def fetch_starts(params: Params, project: Path = Path()) -> None:
    """Fetch the files of champions that methods begin with and that are not there.

    Raises:
        InputError: a version or its network is gone.
    """
    for version, path in _files(params, project):
        if path.is_file():
            continue
        use_store()
        release = find_release(params.registry.model, version)
        if release is None:
            raise InputError(f"{path.name}: {params.registry.model} version {version} is gone from the registry")
        with TemporaryDirectory() as folder:
            try:
                network = download_artifacts(
                    run_id=find_run(release).info.run_id, artifact_path=NETWORK, dst_path=folder
                )
            except (OSError, mlflow.MlflowException) as error:
                raise InputError(f"{release}: its run has no {NETWORK}, with which a training could begin") from error
            with replacing_file(path) as unfinished:
                shutil.copyfile(network, unfinished)


def champions_recipe(params: Params) -> dict[str, Any]:
    """Return the served method's settings that the champion was trained with, where params.yaml has others.

    An adaptation begins with the champion's network, which was perhaps trained with changes for one run.

    Raises:
        InputError: there is no champion, or its run has no params.yaml.
    """
    use_store()
    champion, served = find_champion(params.registry.model), params.registry.method
    with TemporaryDirectory() as folder:
        try:
            run_id = find_run(champion).info.run_id
            path = download_artifacts(run_id=run_id, artifact_path=PARAMS.name, dst_path=folder)
        except (OSError, mlflow.MlflowException) as error:
            raise InputError(f"{champion}: its run has no {PARAMS}: {error}") from error
        recorded = load_recorded_params(Path(path))
    if served not in recorded.methods or recorded.methods[served] == params.methods[served]:
        return {}
    return {f"methods.{served}": recorded.methods[served].model_dump(mode="json")}


def _files(params: Params, project: Path) -> Iterator[tuple[str, Path]]:
    """Yield version and path of each file of a champion that a method begins with."""
    methods: list[MethodSettings] = list(params.methods.values())
    for method in methods:
        if named := CHAMPION_FILE.fullmatch(method.backbone.weights):
            yield named["version"], project / WEIGHTS / named[0]
