"""Trained networks, a deployment's images and its temporal profile go in; its metrics come out."""

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from qaconv.config import METHODS, Params, RerankConfig
from qaconv.device import find_device
from qaconv.errors import InputError
from qaconv.files import replacing_file, write_json
from qaconv.loading import encode
from qaconv.manifest import JUNK, Manifest
from qaconv.matching import score_matrix
from qaconv.metrics import RankingMetrics, evaluate_ranking
from qaconv.models.checkpoint import load_network
from qaconv.rerank import k_reciprocal
from qaconv.stages.places import METRICS, MODELS, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

log = logging.getLogger(__name__)

LOGIT_SCALE = 10.0  # of the probabilities that distances are made of, as the authors' first release shows them
CMC_RANKS = 50  # plotted


def evaluate(params: Params, deployment: str) -> None:
    """Writes metrics/<deployment>.json, _cmc.csv and _queries.csv: each method, ranked four ways.

    Raises:
        InputError: the deployment has no query, no gallery, or no query with a true match.
    """
    manifest = Manifest.load(PREPARED / deployment)
    query, gallery = manifest.split("query"), manifest.split("gallery")
    gallery = gallery[gallery["pid"] != JUNK].reset_index(drop=True)
    if query.empty or gallery.empty:
        raise InputError(
            f"params.yaml: deployments names {deployment!r}, which has {len(query)} query images and {len(gallery)} in "
            "its gallery; legal is at least one of each"
        )
    profile = TLiftProfile.load(TLIFT / f"{deployment}.json")
    results = {}
    for method in METHODS:
        logits = _logits(params, method, manifest, query, gallery)
        rankings = _rankings(*logits, query, gallery, profile, params.evaluate.rerank)
        try:
            results[method] = {
                name: evaluate_ranking(scores, query["pid"], gallery["pid"], query["camid"], gallery["camid"])
                for name, scores in rankings.items()
            }
        except ValueError as error:
            raise InputError(f"{PREPARED / deployment}: cannot be evaluated: {error}") from error
        best = results[method]["direct"]
        log.info(
            "%s, %s: rank-1 %.1f, mAP %.1f", deployment, method, 100 * best.cmc[0], 100 * best.mean_average_precision
        )
    figures = {method: {name: _figures(metrics) for name, metrics in of.items()} for method, of in results.items()}
    counted = results["qaconv"]["direct"].queries
    write_json(METRICS / f"{deployment}.json", {**figures, "queries": counted, "gallery": len(gallery)})
    with replacing_file(METRICS / f"{deployment}_cmc.csv") as beside:
        _cmc_table(results).to_csv(beside, index=False, lineterminator="\n", float_format="%.6f")
    with replacing_file(METRICS / f"{deployment}_queries.csv") as beside:
        _query_table(query, results).to_csv(beside, index=False, lineterminator="\n", float_format="%.6f")


def _logits(
    params: Params, method: str, manifest: Manifest, query: pd.DataFrame, gallery: pd.DataFrame
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Logits of query against gallery [Q, G], query against query and gallery against gallery."""
    network, _ = load_network(MODELS / method)
    device = find_device(params.machine.device)
    encoder, head = network.encoder.to(device), network.head
    query_maps, gallery_maps = (
        encode(
            encoder,
            [manifest.root / image for image in rows["image"]],
            params.image,
            batch_size=params.evaluate.batch_size,
            device=device,
            workers=params.machine.workers,
        )
        for rows in (query, gallery)
    )
    return (
        score_matrix(query_maps, gallery_maps, head, device=device, progress=True),
        score_matrix(query_maps, query_maps, head, device=device),
        score_matrix(gallery_maps, gallery_maps, head, device=device, progress=True),
    )


def _rankings(
    query_gallery: NDArray[np.float32],
    query_query: NDArray[np.float32],
    gallery_gallery: NDArray[np.float32],
    query: pd.DataFrame,
    gallery: pd.DataFrame,
    profile: TLiftProfile,
    rerank: RerankConfig,
) -> Mapping[str, NDArray]:
    """Scores [Q, G] four ways; time is left out where the profile says so."""
    distances = (
        1 - expit(logits.astype(np.float64) / LOGIT_SCALE) for logits in (query_gallery, query_query, gallery_gallery)
    )
    reranked = 1 - k_reciprocal(*distances, k1=rerank.k1, k2=rerank.k2, lambda_value=rerank.lambda_value)
    where_and_when = (query["camid"], query["time_s"], gallery["camid"], gallery["time_s"])
    return {
        "direct": query_gallery,
        "reranked": reranked,
        "tlift": profile.lift(expit(query_gallery.astype(np.float64)), *where_and_when),
        "reranked_tlift": profile.lift(reranked, *where_and_when),
    }


def _figures(metrics: RankingMetrics) -> dict[str, float]:
    ranks = {f"rank{k}": float(metrics.cmc[min(k, len(metrics.cmc)) - 1]) for k in (1, 5, 10, 20)}
    return {**ranks, "mAP": metrics.mean_average_precision, "mINP": metrics.mean_inverse_negative_penalty}


def _cmc_table(results: Mapping[str, Mapping[str, RankingMetrics]]) -> pd.DataFrame:
    """One row a rank, one column a method and ranking."""
    columns = {
        f"{method}_{name}": metrics.cmc[:CMC_RANKS] for method, of in results.items() for name, metrics in of.items()
    }
    table = pd.DataFrame(columns)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _query_table(query: pd.DataFrame, results: Mapping[str, Mapping[str, RankingMetrics]]) -> pd.DataFrame:
    """Average precision: one row a query, one column a method and ranking; empty where a query does not count."""
    columns = {
        f"{method}_{name}": metrics.average_precisions for method, of in results.items() for name, metrics in of.items()
    }
    return pd.DataFrame({"image": query["image"], **columns})
