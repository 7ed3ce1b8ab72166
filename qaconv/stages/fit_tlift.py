"""A deployment's maps, cameras and times go in; each model's temporal profile comes out, fitted without a label."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from qaconv.config import METHODS, Params, RerankConfig
from qaconv.device import find_device
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.manifest import Manifest
from qaconv.matching import MapStore, logit_tiles, score_pairs
from qaconv.models import QAConv
from qaconv.models.checkpoint import load_network, weights_digest
from qaconv.rerank import Neighbourhoods, find_neighbourhoods, k_reciprocal_sparse
from qaconv.stages.places import FEATURES, MODELS, PREPARED, TLIFT
from qaconv.tlift import fit
from qaconv.tlift.pictures import draw_profile

log = logging.getLogger(__name__)

NEIGHBOURS = 100  # of each sighting: more than any person's sightings on the other cameras
LOGIT_SCALE = 10.0  # of the distances that are re-ranked, as in the evaluation


def fit_tlift(params: Params, deployment: str) -> None:
    """Writes artifacts/tlift/<deployment>/<method>.json, and pictures with their data beside it.

    Raises:
        InputError: the maps are of other images or of another network, or the device is not there.
    """
    sightings = Manifest.load(PREPARED / deployment).frame.query("split != 'train'")
    queries = int((sightings["split"] == "query").sum())
    camids, times = sightings["camid"].to_numpy(), sightings["time_s"].to_numpy()
    device = find_device(params.machine.device)
    with replacing_folder(TLIFT / deployment) as beside:
        for method in METHODS:
            folder, digest = FEATURES / deployment / method, weights_digest(MODELS / method)
            store = MapStore(folder, model=digest)
            if store.ids.tolist() != sightings["image"].tolist():
                raise InputError(f"{folder}: holds maps of other images than {PREPARED / deployment}; run `dvc repro`")
            maps, head = store.block(0, len(store)), load_network(MODELS / method)[0].head
            matched = match_sightings(maps, head, queries, params.evaluate.rerank, device)
            profile = fit(
                matched.indices,
                matched.scores,
                camids,
                times,
                reranked_scores=matched.reranked,
                deployment=deployment,
                model=digest,
            )
            profile.save(beside / f"{method}.json")
            draw_profile(profile, beside, method)
            log.info("%s, %s: time is %s: %s", deployment, method, "used" if profile.active else "off", profile.reason)
            for finding in profile.findings:
                log.info("  camera %d, %s: %s: %s", finding.camid, finding.kind, finding.detail, finding.done)


@dataclass(frozen=True)
class Matched:
    """What appearance says of N sightings, of which the first Q are queries and the other G the gallery.

    Attributes:
        indices: [N, k], each sighting's nearest others, best first.
        scores: [N, k], theirs, sigmoid(logit).
        reranked: [N, k], 1 - the re-ranked distance of a query and a gallery image; NaN for other pairs.
        direct_table: [Q, G], sigmoid(logit).
        reranked_table: [Q, G].
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    reranked: NDArray[np.float64]
    direct_table: NDArray[np.floating]
    reranked_table: NDArray[np.floating]


def match_sightings(maps: Tensor, head: QAConv, queries: int, rerank: RerankConfig, device: torch.device) -> Matched:
    """Each sighting's neighbours, and those of query and gallery re-ranked too; each pair is matched once.

    Args:
        maps: [N, C, H, W], queries first.
        head: of the network.
        queries: how many of them.
        rerank: as the evaluation re-ranks.
        device: where to match.
    """
    across = np.empty((queries, len(maps) - queries), dtype=np.float32)

    def distance_tiles() -> Iterator[tuple[slice, slice, Tensor]]:
        for rows, columns, logits in logit_tiles(maps, maps, head, device=device, progress=True):
            part = logits[: max(0, queries - rows.start), max(0, queries - columns.start) :].numpy()
            first = max(0, columns.start - queries)
            across[rows.start : rows.start + part.shape[0], first : first + part.shape[1]] = part
            yield rows, columns, torch.sigmoid(logits / -LOGIT_SCALE)

    def distances_of(rows: NDArray, columns: NDArray) -> NDArray:
        return expit(score_pairs(maps, rows, columns, head, device=device) / -LOGIT_SCALE)

    found = find_neighbourhoods(distance_tiles(), len(maps), k1=NEIGHBOURS, k2=rerank.k2)
    indices, logits = _others(found)
    distances = k_reciprocal_sparse(
        expit(across / -LOGIT_SCALE), _narrow(found, rerank), distances_of, **rerank.model_dump()
    )
    return Matched(
        indices, expit(logits), _of_neighbours(1 - distances, indices), expit(across.astype(np.float64)), 1 - distances
    )


def _others(found: Neighbourhoods) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """[N, k] both: each image's nearest but itself, and their logits."""
    others = found.indices != np.arange(len(found.indices))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(others), others.shape[1] - 1)
    distances = found.distances[others].reshape(shape)
    return found.indices[others].reshape(shape), LOGIT_SCALE * (np.log1p(-distances) - np.log(distances))


def _narrow(found: Neighbourhoods, rerank: RerankConfig) -> Neighbourhoods:
    """As many of the nearest as re-ranking asks for."""
    width = max(rerank.k1 + 1, rerank.k2)
    return Neighbourhoods(found.indices[:, :width], found.distances[:, :width], found.farthest)


def _of_neighbours(reranked: NDArray, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """[N, k]: the re-ranked score of each neighbour; NaN for two queries, and for two gallery images."""
    queries = len(reranked)
    image = np.repeat(np.arange(len(indices)), indices.shape[1])
    query, gallery = np.minimum(image, indices.ravel()), np.maximum(image, indices.ravel())
    known = (query < queries) & (gallery >= queries)
    scores = np.full(len(image), np.nan)
    scores[known] = reranked[query[known], gallery[known] - queries]
    return scores.reshape(indices.shape)
