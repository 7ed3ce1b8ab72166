"""Exported graphs go in; versions in MLflow's registry come out, each with the evidence that the gate judges it by.

Three registered models belong together: `<name>-encoder` and `<name>-matcher` are the ONNX graphs, and `<name>` is
the model that serves both: it says which versions of them it holds, with the contract and the temporal profiles. So
encoder, matcher, contract and profiles of a version are found together or not at all.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from qaconv.config import Params
from qaconv.errors import InputError
from qaconv.metrics.rankings import DIRECT, SERVED_METHOD, metric_name
from qaconv.paths import METRICS, ONNX, TLIFT
from qaconv.registry.descriptions import describe
from qaconv.registry.packaging import EVIDENCE, SERVED, log_served
from qaconv.registry.runs import data_digests, git_tags, lock_digest
from qaconv.release.evidence import Evidence, collect
from qaconv.runtime.model import ServedModel
from qaconv.tlift import TLiftProfile

GRAPHS = ("encoder", "matcher")
WEIGHTS = "weights"  # tag: digest of the network that was exported, which its temporal profiles name


@dataclass(frozen=True)
class Release:
    """A version of the model and of its two graphs.

    Attributes:
        name: of the registered model.
        version: of the model.
        graphs: the version of each graph, by its registered name.
        run_id: the MLflow run that registered it.
    """

    name: str
    version: str
    graphs: Mapping[str, str]
    run_id: str | None

    @property
    def models(self) -> dict[str, str]:
        """The version of each registered model, the one that names the pair last."""
        return {**self.graphs, self.name: self.version}

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def register(params: Params, metrics: Mapping[str, float]) -> Release:
    """Registers what was exported, in the open run, makes it the challenger and describes it.

    Each version is found again by the digest of dvc.lock: what is registered already stays as it is, and an attempt
    that broke off is taken up where it stopped.

    Args:
        params: names the model and the targets.
        metrics: of those, as `runs.load_metrics` gives them.
    """
    name, digest = params.registry.model, {"dvc_lock": lock_digest()}
    graphs = {
        graph: _version(f"{name}-{graph}", digest, git_tags(), partial(_log_graph, graph)).version for graph in GRAPHS
    }
    deciding = [metric_name(SERVED_METHOD, DIRECT.key, "mAP", target=name) for name in params.targets]
    maps = {name: repr(metrics[name]) for name in deciding}
    pair = {f"{graph}_version": str(version) for graph, version in graphs.items()}
    log = partial(_log_model, params, pair)
    weights = {WEIGHTS: _profile(params.targets[0]).model}
    release = _release(_version(name, {**digest, **pair}, {**git_tags(), **maps, **weights}, log))
    for model, version in release.models.items():
        MlflowClient().set_registered_model_alias(model, "challenger", version)
    describe(name, release.version, params, metrics)
    return release


def link_profile(name: str, target: str, run_id: str) -> list[str]:
    """Tags every version of the model that a target's profile was fitted for with the run that logged it.

    Args:
        name: of the registered model.
        target: whose profile in artifacts/tlift it is.
        run_id: the MLflow run.

    Returns:
        The versions; none where the profile's model was never registered.
    """
    fitted_for = _profile(target).model
    versions = MlflowClient().search_model_versions(f"name = '{name}' and tags.{WEIGHTS} = '{fitted_for}'")
    for version in versions:
        MlflowClient().set_model_version_tag(name, version.version, f"tlift.{target}", run_id)
    return sorted((str(version.version) for version in versions), key=int)


def find_release(name: str, version: str) -> Release | None:
    """The release of a version's number or alias, if there is one."""
    client = MlflowClient()
    number = version if version.isdigit() else client.get_registered_model(name).aliases.get(version)
    return None if number is None else _release(client.get_model_version(name, number))


def find_champion(name: str) -> Release:
    """The release that bears the alias champion.

    Raises:
        InputError: there is none.
    """
    try:
        champion = find_release(name, "champion")
    except mlflow.MlflowException as error:
        raise InputError(f"{name}: {error.message}") from error
    if champion is None:
        raise InputError(f"{name}: no version bears the alias champion")
    return champion


def started_s(release: Release) -> float:
    """When the retraining that registered a release began, in seconds since 1970; it has seen nothing later."""
    assert release.run_id is not None
    return float(MlflowClient().get_run(release.run_id).info.start_time) / 1000


def load_evidence(release: Release) -> Evidence | None:
    """What is known of a release; none for versions that were registered without."""
    uri = f"models:/{release.name}/{release.version}"
    kept = list_artifacts(artifact_uri=f"{uri}/{Path(EVIDENCE).parent}") or ()
    if Path(EVIDENCE).name not in [Path(file.path).name for file in kept]:
        return None
    with TemporaryDirectory() as folder:
        return Evidence.load(Path(download_artifacts(f"{uri}/{EVIDENCE}", dst_path=folder)))


def download_served(name: str, version: str, folder: Path) -> None:
    """Copies what a version serves by (graphs, contract, profiles) into an empty folder."""
    found = download_artifacts(f"models:/{name}/{version}/{SERVED}")
    shutil.copytree(found, folder, dirs_exist_ok=True)


def load_served(release: Release) -> tuple[ServedModel, Mapping[str, TLiftProfile]]:
    """What a release serves by, and its temporal profiles by target, in memory."""
    with TemporaryDirectory() as folder:
        download_served(release.name, release.version, Path(folder))
        model = ServedModel(Path(folder))
        return model, model.profiles


def aliases(release: Release) -> list[str]:
    """The aliases that point to a release now."""
    return sorted(MlflowClient().get_model_version(release.name, release.version).aliases)


def _version(name: str, identity: Mapping[str, str], tags: Mapping[str, str], log: Callable[[], str]) -> ModelVersion:
    """The version whose tags are `identity`; where there is none, a new one of the model that `log` logs and names."""
    same = " and ".join(f"tags.{key} = '{value}'" for key, value in identity.items())
    found = MlflowClient().search_model_versions(f"name = '{name}' and {same}")
    return found[0] if found else mlflow.register_model(log(), name, tags={**identity, **tags})


def _log_graph(name: str) -> str:
    graph = onnx.load(ONNX / f"{name}.onnx")
    signature = ModelSignature(
        inputs=Schema([_tensor_spec(value) for value in graph.graph.input]),
        outputs=Schema([_tensor_spec(value) for value in graph.graph.output]),
    )
    logged = mlflow.onnx.log_model(
        graph,
        name=name,
        signature=signature,
        save_as_external_data=False,
        # MLflow would find these out by loading the model in another process, which takes long.
        pip_requirements=mlflow.onnx.get_default_pip_requirements(),
    )
    return str(logged.model_uri)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """An input or output as the graph declares it; -1 stands for any size."""
    tensor = value.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim]
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), tuple(shape), value.name)


def _log_model(params: Params, pair: Mapping[str, str]) -> str:
    """What serves both graphs, with the evidence for it."""
    evidence = collect(params.targets, data_digests(params.targets), METRICS, TLIFT, ONNX)
    profiles = {target: TLIFT / target / "qaconv.json" for target in params.targets}
    return log_served(params.registry.model, ONNX, profiles, pair, evidence)


def _profile(target: str) -> TLiftProfile:
    """The served model's."""
    return TLiftProfile.load(TLIFT / target / "qaconv.json")


def _release(version: ModelVersion) -> Release:
    graphs = {f"{version.name}-{graph}": version.tags[f"{graph}_version"] for graph in GRAPHS}
    return Release(version.name, str(version.version), graphs, version.run_id)
