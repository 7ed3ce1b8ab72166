"""Register the network that was adapted to a target, with its lineage and its evidence, as a version of one site."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from qaconv.adaptation.outcome import METRICS_FILE, PROFILE_FILE, AdaptationMetrics, describe_kept
from qaconv.config import Params
from qaconv.files import read_file
from qaconv.paths import ADAPTED, ADAPTED_ONNX
from qaconv.registry.packaging import log_served
from qaconv.registry.registration import register_graphs
from qaconv.registry.releases import BEGAN_WITH, SITE, WEIGHTS, Release
from qaconv.registry.runs import DVC_LOCK, data_digests, flatten
from qaconv.release.evidence import measure_encoder, measure_size
from qaconv.release.site_evidence import Gain, SiteEvidence
from qaconv.runtime.contract import CONTRACT, ENCODER, Contract
from qaconv.tlift import TLiftProfile

ADAPTED_ROWS = "Adapted without labels: the network as trained, and the adapted one"
KEPT_ROUND = "kept_round"  # tag: whose network was kept
BY_CAMERA = "by_camera"  # tag: whether each camera has batch norms of its own, true or false
UNKNOWN = "–"  # times are not used, or nobody was held out
MODEL_FILE = "model.json"
FILES = (METRICS_FILE, "rounds.csv", MODEL_FILE, PROFILE_FILE)


def site_stages(site: str) -> list[str]:
    """Return the stages of dvc.yaml that make a site's network, without those that they depend on."""
    return [f"adapt@{site}", f"export_adapted@{site}"]


def load_site_metrics(site: str, project: Path = Path()) -> dict[str, float]:
    """Load what an adaptation has changed, by names such as `station.adapted.right.after`.

    Raises:
        InputError: the file is missing or damaged.
    """
    values = flatten(AdaptationMetrics.load(project / ADAPTED / site / METRICS_FILE).model_dump())
    return {f"{site}.adapted.{name}": float(value) for name, value in values.items() if isinstance(value, int | float)}


def adapted_rows(params: Params) -> list[dict[str, str]]:
    """Return two rows for each target of `adapt.targets`: the network as trained, and the adapted one, in per cent.

    Raises:
        InputError: a file of metrics is missing or damaged.
    """
    rows = []
    for target in params.adapt.targets:
        metrics = AdaptationMetrics.load(ADAPTED / target / METRICS_FILE)
        right = metrics.right
        shares = (right.before, right.after) if right else (None, None)
        change = UNKNOWN
        if right:
            change = f"{100 * (right.after - right.before):+.1f} ({100 * right.low:.1f} to {100 * right.high:.1f})"
        adapted = f"adapted: {describe_kept(metrics.kept_round, by_camera=metrics.by_camera)}"
        for network, figures, share, text in (
            ("as trained", metrics.before, shares[0], ""),
            (adapted, metrics.after, shares[1], change),
        ):
            rows.append(
                {
                    "target": target,
                    "network": network,
                    "right by times": _percent(share),
                    "change, 95 %": text,
                    "right pairs of identities": _percent(figures.expected_precision),
                    "sources' mAP": _percent(figures.source_map),
                }
            )
    return rows


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f}"


def log_adaptation(site: str) -> None:
    """Log the inputs of a reproduction, the metrics and the files for people to the open run."""
    for path in (Path("params.yaml"), DVC_LOCK, ADAPTED_ONNX / site / CONTRACT):
        mlflow.log_artifact(str(path))
    for name in FILES:
        mlflow.log_artifact(str(ADAPTED / site / name), f"adapted/{site}")
    mlflow.log_metrics(load_site_metrics(site))


def register_adapted(params: Params, site: str) -> Release:
    """Register a site's network in the open run, and make the version the site's challenger.

    Versions are found by site and digest of dvc.lock, as those for all targets are.
    """
    name, adapted = params.registry.model, _load_adapted(site)
    lineage = {
        SITE: site,
        BEGAN_WITH: adapted["network"],
        KEPT_ROUND: str(adapted["kept_round"]),
        BY_CAMERA: str(adapted["by_camera"]).lower(),
        WEIGHTS: TLiftProfile.load(ADAPTED / site / PROFILE_FILE).model,
    }
    release = register_graphs(name, ADAPTED_ONNX / site, partial(_log_model, name, site), lineage)
    if not MlflowClient().get_model_version(name, release.version).description:
        MlflowClient().update_model_version(name, release.version, _describe(release, adapted))
    return release


def _log_model(name: str, site: str, pair: Mapping[str, str]) -> str:
    return log_served(name, ADAPTED_ONNX / site, {site: ADAPTED / site / PROFILE_FILE}, pair, collect_site(site))


def collect_site(site: str) -> SiteEvidence:
    """Read the outputs of adapt and export_adapted, and measure the encoder's speed.

    Raises:
        InputError: a file is missing.
    """
    folder = ADAPTED_ONNX / site
    metrics = AdaptationMetrics.load(ADAPTED / site / METRICS_FILE)
    graphs = Contract.load(folder).graphs
    sources = metrics.before.source_map, metrics.after.source_map
    return SiteEvidence(
        site=site,
        data=data_digests([site])[site],
        began_with=_load_adapted(site)["network"],
        kept_round=metrics.kept_round,
        reason=metrics.reason,
        gain=_gain(metrics),
        reviewed_precision=metrics.reviewed_precision,
        source_map=(sources[0], sources[1]) if sources[0] is not None and sources[1] is not None else None,
        differences={name: graph.largest_difference_from_pytorch for name, graph in graphs.items()},
        megabytes=measure_size(folder, graphs),
        encoder_ms=measure_encoder(folder / ENCODER),
        by_camera=metrics.by_camera,
    )


def _load_adapted(site: str) -> dict[str, Any]:
    """Read from its model.json what a network was adapted from, and how."""
    adapted: dict[str, Any] = json.loads(read_file(Path.read_text, ADAPTED / site / MODEL_FILE))["trained"]["adapted"]
    return adapted


def _gain(metrics: AdaptationMetrics) -> Gain | None:
    """Return what people's answers say; where there are too few, what times say."""
    if metrics.answers:
        return Gain(by="answers", **metrics.answers.model_dump())
    return Gain(by="times", **metrics.right.model_dump()) if metrics.right else None


def _describe(release: Release, adapted: Mapping[str, Any]) -> str:
    kept = describe_kept(adapted["kept_round"], by_camera=adapted["by_camera"])
    return (
        f"Adapted to {release.site} without labels from the network {adapted['network'][:12]}: {kept}. It serves "
        f"{release.site} alone."
    )
