"""Exported graphs go in; versions in MLflow's registry come out, and the best of them bears the alias champion.

Three registered models belong together: `<name>-encoder` and `<name>-matcher` are the ONNX graphs, and `<name>` is
the model that serves both: it says which versions of them it holds, with the contract and the temporal profiles.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from qaconv.config import Params
from qaconv.packaging import SERVED, log_served
from qaconv.stages.places import ONNX, TLIFT
from qaconv.tracking import data_digests, git_tags, lock_digest

GRAPHS = ("encoder", "matcher")
DECIDING = ".qaconv.direct.mAP"  # the metric that promotes, after the deployment's name
DATA = ".data"  # DVC's digest of what it was measured on, likewise


@dataclass(frozen=True)
class Release:
    """A version of the model and of its two graphs.

    Attributes:
        name: of the registered model.
        version: of the model.
        graphs: the version of each graph, by its registered name.
        direct_map: mAP of direct matching in [0, 1], by deployment.
        data: DVC's digest of the data that it was measured on, by deployment.
        run_id: the MLflow run that registered it.
    """

    name: str
    version: str
    graphs: Mapping[str, str]
    direct_map: Mapping[str, float]
    data: Mapping[str, str]
    run_id: str | None


@dataclass(frozen=True)
class Promotion:
    """What was decided about a challenger.

    Attributes:
        promoted: whether it has become the champion.
        reason: for a person, in a sentence.
        figures: mAP of direct matching in points, the challenger's and the champion's, by deployment that both know.
    """

    promoted: bool
    reason: str
    figures: Mapping[str, tuple[float, float]]


def register(params: Params, metrics: Mapping[str, float]) -> Release:
    """Registers what was exported, in the open run, and makes it the challenger.

    Each version is found again by the digest of dvc.lock: what is registered already stays as it is, and an attempt
    that broke off is taken up where it stopped.

    Args:
        params: names the model and the deployments.
        metrics: of those, as `tracking.load_metrics` gives them.
    """
    name, digest = params.registry.model, {"dvc_lock": lock_digest()}
    graphs = {
        graph: _version(f"{name}-{graph}", digest, git_tags(), partial(_log_graph, graph)).version for graph in GRAPHS
    }
    digests = data_digests(params.deployments)
    maps = {f"{name}{DECIDING}": repr(metrics[f"{name}{DECIDING}"]) for name in params.deployments}
    maps |= {f"{name}{DATA}": digests[name] for name in params.deployments}
    pair = {f"{graph}_version": str(version) for graph, version in graphs.items()}
    profiles = {deployment: TLIFT / deployment / "qaconv.json" for deployment in params.deployments}
    log = partial(log_served, name, ONNX, profiles, pair)
    release = _release(_version(name, {**digest, **pair}, {**git_tags(), **maps}, log))
    _point("challenger", release)
    return release


def promote(params: Params, challenger: Release) -> Promotion:
    """Makes the challenger champion if it beats the present one by `registry.min_gain`, or if there is none."""
    champion = find_champion(challenger.name)
    if champion and champion.version == challenger.version:
        decision = Promotion(False, f"{_title(champion)} is the champion already.", {})
    else:
        decision = decide(challenger, champion, params.registry.min_gain)
        MlflowClient().set_model_version_tag(challenger.name, challenger.version, "promotion", decision.reason)
    # A champion that stays is pointed to again: that mends what a killed promotion may have left.
    _point("champion", champion if champion and not decision.promoted else challenger)
    return decision


def decide(challenger: Release, champion: Release | None, min_gain: float) -> Promotion:
    """Compares direct mAP, mean over the deployments that both were measured on, with the same data.

    Args:
        challenger: a new version.
        champion: the present one, if there is one.
        min_gain: mAP points that the challenger must be better by; a tie never promotes.
    """
    if champion is None:
        return Promotion(True, f"{_title(challenger)} becomes the champion: there was none.", {})
    common = [name for name, digest in challenger.data.items() if champion.data.get(name) == digest]
    if not common:
        reason = (
            f"{_title(challenger)} does not replace champion version {champion.version}: nothing compares them. "
            f"It was measured on {', '.join(challenger.direct_map)}, the champion on {', '.join(champion.direct_map)}, "
            "and on no deployment with the same data; keep one of the champion's deployments as it is, or give "
            "registry.model another name."
        )
        return Promotion(False, reason, {})
    figures = {name: (100 * challenger.direct_map[name], 100 * champion.direct_map[name]) for name in common}
    new, old = (float(np.mean(points)) for points in zip(*figures.values(), strict=True))
    gain = round(new - old, 6)
    promoted = gain > 0 and gain >= min_gain
    reason = (
        f"{_title(challenger)} {'replaces' if promoted else 'does not replace'} champion version {champion.version}: "
        f"its direct mAP, mean over {', '.join(common)}, is {new:.2f} against {old:.2f}, "
        f"{gain:+.2f} points where more than 0 and at least {min_gain:g} are asked for."
    )
    if alone := sorted({*challenger.direct_map, *champion.direct_map} - set(common)):
        reason += f" Not compared, as only one of them was measured on the present data there: {', '.join(alone)}."
    return Promotion(promoted, reason, figures)


def find_champion(name: str) -> Release | None:
    """The release that the alias champion points to."""
    client = MlflowClient()
    version = client.get_registered_model(name).aliases.get("champion")
    return None if version is None else _release(client.get_model_version(name, version))


def download_served(name: str, version: str, folder: Path) -> None:
    """Copies what a version serves by (graphs, contract, profiles) into an empty folder."""
    found = mlflow.artifacts.download_artifacts(f"models:/{name}/{version}/{SERVED}")
    shutil.copytree(found, folder, dirs_exist_ok=True)


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


def _release(version: ModelVersion) -> Release:
    maps = {tag.removesuffix(DECIDING): float(value) for tag, value in version.tags.items() if tag.endswith(DECIDING)}
    graphs = {f"{version.name}-{graph}": version.tags[f"{graph}_version"] for graph in GRAPHS}
    data = {tag.removesuffix(DATA): value for tag, value in version.tags.items() if tag.endswith(DATA)}
    return Release(version.name, str(version.version), graphs, maps, data, version.run_id)


def _point(alias: str, release: Release) -> None:
    """Moves an alias on all three models, or, if one fails, on none.

    The model that names the pair comes last: a process killed in between leaves it on the old pair.
    """
    client = MlflowClient()
    before: dict[str, str | None] = {}
    try:
        for name, version in {**release.graphs, release.name: release.version}.items():
            before[name] = client.get_registered_model(name).aliases.get(alias)
            client.set_registered_model_alias(name, alias, version)
    except BaseException:
        for name, old in before.items():
            if old is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, old)
        raise


def _title(release: Release) -> str:
    return f"{release.name} version {release.version}"
