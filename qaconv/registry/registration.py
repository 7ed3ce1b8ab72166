"""Register exported graphs and the model that serves them, with the evidence that the gate judges."""

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from qaconv.config import Params, RegistryConfig
from qaconv.metrics.rankings import DIRECT, metric_name
from qaconv.paths import METRICS, ONNX, TLIFT
from qaconv.paths import WEIGHTS as WEIGHT_FILES
from qaconv.registry.descriptions import describe, is_estimated
from qaconv.registry.packaging import log_served
from qaconv.registry.releases import BEGAN_WITH, GRAPHS, SITE, WEIGHTS, WEIGHTS_LICENCE, Release, alias_of
from qaconv.registry.runs import data_digests, git_tags, lock_digest
from qaconv.release.evidence import collect
from qaconv.runtime.contract import Contract
from qaconv.tlift import TLiftProfile
from qaconv.training.methods import NO_FILE

ESTIMATED = "estimated"  # tag: the targets without labels, of which there are estimates only


def register(params: Params, metrics: Mapping[str, float]) -> Release:
    """Register the exported graphs and model in the open run, make the version challenger and describe it.

    Versions are found by the digest of dvc.lock: one that is registered is not registered again, and a registration
    that was interrupted is completed.

    Args:
        params: names of the model and the targets.
        metrics: of the targets, as `runs.load_metrics` returns them.
    """
    name = params.registry.model
    estimated = [target for target in params.targets if is_estimated(target, metrics)]
    measured = [target for target in params.targets if target not in estimated]
    method = params.registry.method
    deciding = [metric_name(method, DIRECT.key, "mAP", target=target) for target in measured]
    deciding += [metric_name(method, "expected", "share_with_match", target=target) for target in estimated]
    results = {name: repr(metrics[name]) for name in deciding if name in metrics}
    results |= {ESTIMATED: " ".join(estimated)} if estimated else {}
    lineage = {WEIGHTS: _profile(method, params.targets[0]).model}
    start = WEIGHT_FILES / params.method(method).backbone.weights
    if start.is_file() and start.name not in NO_FILE:
        lineage[BEGAN_WITH] = sha256(start.read_bytes()).hexdigest()
    release = register_graphs(name, ONNX, partial(_log_model, params), {**results, **lineage})
    describe(name, release.version, params, metrics, Contract.load(ONNX).weights_licence)
    return release


def register_graphs(
    name: str, onnx_folder: Path, log_model: Callable[[Mapping[str, str]], str], tags: Mapping[str, str]
) -> Release:
    """Register exported graphs and the model that serves them, make them challenger, and return the release.

    Args:
        name: name of the registered model.
        onnx_folder: folder of the graphs.
        log_model: logs the model, given the versions of its graphs as tags, and returns its address.
        tags: of the model's version; SITE among them if it is of one site.
    """
    identity = {"dvc_lock": lock_digest()} | ({SITE: tags[SITE]} if SITE in tags else {})
    graphs = {
        graph: _version(f"{name}-{graph}", identity, git_tags(), partial(_log_graph, onnx_folder, graph)).version
        for graph in GRAPHS
    }
    pair = {f"{graph}_version": str(version) for graph, version in graphs.items()}
    licence = Contract.load(onnx_folder).weights_licence
    tags = {**tags, WEIGHTS_LICENCE: licence} if licence else tags
    log = partial(log_model, pair)
    release = Release.of_version(_version(name, {**identity, **pair}, {**git_tags(), **tags}, log))
    for model, version in release.models.items():
        MlflowClient().set_registered_model_alias(model, alias_of("challenger", release.site), version)
    return release


def link_profile(registry: RegistryConfig, target: str, run_id: str) -> list[str]:
    """Tag every version of the model that a target's profile was fitted for with the run that logged the profile.

    Args:
        registry: names of the registered model and the served method.
        target: whose profile in artifacts/tlift was logged.
        run_id: the MLflow run.

    Returns:
        The versions; none where the profile's model was never registered.
    """
    name, fitted_for = registry.model, _profile(registry.method, target).model
    versions = MlflowClient().search_model_versions(f"name = '{name}' and tags.{WEIGHTS} = '{fitted_for}'")
    for version in versions:
        MlflowClient().set_model_version_tag(name, version.version, f"tlift.{target}", run_id)
    return sorted((str(version.version) for version in versions), key=int)


def _version(name: str, identity: Mapping[str, str], tags: Mapping[str, str], log: Callable[[], str]) -> ModelVersion:
    """Find the version whose tags are `identity`, or register the model that `log` logs; `log` returns its address."""
    same = " and ".join(f"tags.{key} = '{value}'" for key, value in identity.items())
    tagged = MlflowClient().search_model_versions(f"name = '{name}' and {same}")
    versions = [version for version in tagged if version.tags.get(SITE) == identity.get(SITE)]
    return versions[0] if versions else mlflow.register_model(log(), name, tags={**identity, **tags})


def _log_graph(folder: Path, name: str) -> str:
    graph = onnx.load(folder / f"{name}.onnx")
    signature = ModelSignature(
        inputs=Schema([_tensor_spec(value) for value in graph.graph.input]),
        outputs=Schema([_tensor_spec(value) for value in graph.graph.output]),
    )
    logged = mlflow.onnx.log_model(
        graph,
        name=name,
        signature=signature,
        save_as_external_data=False,
        # Without these MLflow would load the model in another process to find them, which takes long.
        pip_requirements=mlflow.onnx.get_default_pip_requirements(),
    )
    return str(logged.model_uri)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Describe a graph's input or output; -1 is any size."""
    tensor = value.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim]
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), tuple(shape), value.name)


def _log_model(params: Params, pair: Mapping[str, str]) -> str:
    """Log the model that serves both graphs, with its evidence."""
    method, targets = params.registry.method, params.targets
    evidence = collect(method, targets, data_digests(targets), METRICS, TLIFT, ONNX)
    profiles = {target: TLIFT / target / f"{method}.json" for target in targets}
    return log_served(params.registry.model, ONNX, profiles, pair, evidence)


def _profile(method: str, target: str) -> TLiftProfile:
    """Load a method's profile of a target."""
    return TLiftProfile.load(TLIFT / target / f"{method}.json")
