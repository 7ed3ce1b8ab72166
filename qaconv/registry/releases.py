"""Find registered versions, and load their evidence and what they are served with.

Three registered models belong together: `<name>-encoder` and `<name>-matcher` are the ONNX graphs, and `<name>` serves
both. Its version names those of the graphs and holds the contract and the temporal profiles, so that encoder, matcher,
contract and profiles are found together or not at all.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from qaconv.errors import InputError
from qaconv.registry.packaging import EVIDENCE, SERVED
from qaconv.release.evidence import Evidence
from qaconv.runtime.model import ServedModel
from qaconv.tlift import TLiftProfile

GRAPHS = ("encoder", "matcher")


@dataclass(frozen=True)
class Release:
    """A version of the model and of its two graphs.

    Attributes:
        name: name of the registered model.
        version: version of the model.
        graphs: version of each graph, by its registered name.
        run_id: the MLflow run that registered it.
    """

    name: str
    version: str
    graphs: Mapping[str, str]
    run_id: str | None

    @classmethod
    def of_version(cls, version: ModelVersion) -> "Release":
        """Read a version of the model and its tags.

        Raises:
            InputError: another tool registered it.
        """
        missing = [tag for graph in GRAPHS if (tag := f"{graph}_version") not in version.tags]
        if missing:
            raise InputError(
                f"{version.name} version {version.version}: has no tag {', '.join(missing)}, as another tool "
                "registered it; move its alias to a version of this project, or change registry.model in params.yaml"
            )
        graphs = {f"{version.name}-{graph}": version.tags[f"{graph}_version"] for graph in GRAPHS}
        return cls(version.name, str(version.version), graphs, version.run_id)

    @property
    def models(self) -> dict[str, str]:
        """Version of each registered model, the one that names the pair last."""
        return {**self.graphs, self.name: self.version}

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def find_release(name: str, version: str) -> Release | None:
    """Find a release by a version's number or alias; None where there is none.

    Raises:
        InputError: there is no registered model of that name, or another tool registered the version.
    """
    client = MlflowClient()
    try:
        number = version if version.isdigit() else client.get_registered_model(name).aliases.get(version)
        registered = None if number is None else client.get_model_version(name, number)
    except mlflow.MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        raise InputError(f"{name}: {error.message}; `make demo` or the flow retrain registers versions") from error
    return None if registered is None else Release.of_version(registered)


def is_registered(name: str) -> bool:
    """Return whether there is a registered model of that name."""
    return len(MlflowClient().search_registered_models(f"name = '{name}'")) > 0


def find_champion(name: str) -> Release:
    """Find the release with the alias champion.

    Raises:
        InputError: no version has it.
    """
    champion = find_release(name, "champion")
    if champion is None:
        raise InputError(f"{name}: no version has the alias champion")
    return champion


def started_s(release: Release) -> float:
    """Return when the retraining of a release began, in seconds since 1970; later data is new to it."""
    assert release.run_id is not None
    return float(MlflowClient().get_run(release.run_id).info.start_time) / 1000


def load_evidence(release: Release) -> Evidence | None:
    """Load the evidence for a release; None for a version that was registered without."""
    uri = f"models:/{release.name}/{release.version}"
    files = list_artifacts(artifact_uri=f"{uri}/{Path(EVIDENCE).parent}") or ()
    if Path(EVIDENCE).name not in [Path(file.path).name for file in files]:
        return None
    with TemporaryDirectory() as folder:
        return Evidence.load(Path(download_artifacts(f"{uri}/{EVIDENCE}", dst_path=folder)))


def download_served(name: str, version: str, folder: Path) -> None:
    """Copy a version's graphs, contract and profiles into an empty folder."""
    downloaded = download_artifacts(f"models:/{name}/{version}/{SERVED}")
    shutil.copytree(downloaded, folder, dirs_exist_ok=True)


def load_served(release: Release) -> tuple[ServedModel, Mapping[str, TLiftProfile]]:
    """Load the model that a release is served by, and its temporal profiles by target."""
    with TemporaryDirectory() as folder:
        download_served(release.name, release.version, Path(folder))
        model = ServedModel(Path(folder))
        return model, model.profiles


def aliases(release: Release) -> list[str]:
    """Return the aliases that point to a release now."""
    return sorted(MlflowClient().get_model_version(release.name, release.version).aliases)
