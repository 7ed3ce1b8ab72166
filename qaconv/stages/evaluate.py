"""Feature maps of a deployment's sightings and its temporal profiles go in; its metrics come out."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from qaconv.config import METHODS, EvaluateConfig, Params
from qaconv.device import find_device
from qaconv.errors import InputError
from qaconv.manifest import JUNK, Manifest
from qaconv.matching import MapStore, logit_tiles, score_pairs
from qaconv.metrics import Calibration
from qaconv.models.checkpoint import load_network, weights_digest
from qaconv.models.head import QAConv
from qaconv.rerank import Neighbourhoods, find_neighbourhoods, k_reciprocal_sparse
from qaconv.stages.measures import measure, write_measures
from qaconv.stages.places import FEATURES, MODELS, PREPARED, TLIFT
from qaconv.tlift import TLiftProfile

LOGIT_SCALE = 10.0  # of the probabilities that distances are made of, as the authors' first release shows them
BLOCK_IMAGES = 2048  # read from a store at a time


def evaluate(params: Params, deployment: str) -> None:
    """Writes metrics/<deployment>.json and the tables beside it: each method, ranked four ways.

    Raises:
        InputError: the gallery holds nobody, no query has a true match, or the maps are of other images or networks.
    """
    frame = Manifest.load(PREPARED / deployment).frame
    sightings = frame[frame["split"] != "train"].reset_index(drop=True)
    kept = sightings[(sightings["split"] == "query") | (sightings["pid"] != JUNK)]
    query, gallery = kept[kept["split"] == "query"], kept[kept["split"] == "gallery"]
    if query.empty or gallery.empty:
        raise InputError(
            f"{PREPARED / deployment}: cannot be evaluated: it has {len(query)} query images and {len(gallery)} in its "
            f"gallery without junk (pid {JUNK}); legal is at least one of each"
        )
    device = find_device(params.machine.device)
    measures = {}
    for method in METHODS:
        network, trained = load_network(MODELS / method)
        profile = TLiftProfile.load(TLIFT / deployment / f"{method}.json", model=weights_digest(MODELS / method))
        maps = _load_maps(deployment, method, sightings["image"], kept.index.to_numpy())
        rankings = _rankings(maps, network.head, query, gallery, profile, params.evaluate, device)
        fitted = trained["calibration"]
        try:
            measures[method] = measure(rankings, query, gallery, Calibration(**fitted) if fitted else None)
        except ValueError as error:
            raise InputError(f"{PREPARED / deployment}: cannot be evaluated: {error}") from error
    write_measures(deployment, measures, query, seed=params.seed)


def _load_maps(deployment: str, method: str, images: pd.Series, rows: NDArray[np.intp]) -> Tensor:
    """The maps float32 [N, C, H, W] of some of `images`, which the store must hold in that order."""
    folder = FEATURES / deployment / method
    store = MapStore(folder, model=weights_digest(MODELS / method))
    if not np.array_equal(store.ids, images.to_numpy(dtype=object)):
        raise InputError(f"{folder}: holds maps of other images than {PREPARED / deployment}; `dvc repro` writes them")
    parts = []
    for start in range(0, len(store), BLOCK_IMAGES):
        stop = min(start + BLOCK_IMAGES, len(store))
        chosen = rows[(rows >= start) & (rows < stop)] - start
        parts.append(store.block(start, stop)[torch.from_numpy(chosen)])
    return torch.cat(parts)


def _rankings(
    maps: Tensor,
    head: QAConv,
    query: pd.DataFrame,
    gallery: pd.DataFrame,
    profile: TLiftProfile,
    settings: EvaluateConfig,
    device: torch.device,
) -> Iterator[tuple[str, NDArray]]:
    """Scores [Q, G] four ways, one at a time; time is left out where the profile says so."""
    logits, found = _match(maps, len(query), head, settings, device)
    where_and_when = (query["camid"], query["time_s"], gallery["camid"], gallery["time_s"])
    yield "direct", logits
    pairs = partial(_pair_distances, maps, head, settings, device)
    distances = _distances(torch.from_numpy(logits)).numpy()
    reranked = 1 - k_reciprocal_sparse(distances, found, pairs, **settings.rerank.model_dump())
    yield "reranked", reranked
    yield "tlift", profile.lift(expit(logits.astype(np.float64)), *where_and_when, ranking="direct")
    yield "reranked_tlift", profile.lift(reranked, *where_and_when, ranking="reranked")


def _match(
    maps: Tensor, queries: int, head: QAConv, settings: EvaluateConfig, device: torch.device
) -> tuple[NDArray[np.float32], Neighbourhoods]:
    """Logits [Q, G] and, of all images, what re-ranking asks for; each pair of images is matched once."""
    logits = np.empty((queries, len(maps) - queries), dtype=np.float32)

    def distance_tiles() -> Iterator[tuple[slice, slice, Tensor]]:
        for rows, columns, tile in logit_tiles(maps, maps, head, engine=settings.engine, device=device, progress=True):
            across = tile[: max(0, queries - rows.start), max(0, queries - columns.start) :].numpy()
            first = max(0, columns.start - queries)
            logits[rows.start : rows.start + across.shape[0], first : first + across.shape[1]] = across
            yield rows, columns, _distances(tile)

    return logits, find_neighbourhoods(distance_tiles(), len(maps), k1=settings.rerank.k1, k2=settings.rerank.k2)


def _pair_distances(
    maps: Tensor,
    head: QAConv,
    settings: EvaluateConfig,
    device: torch.device,
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.float32]:
    logits = score_pairs(maps, rows, columns, head, engine=settings.engine, device=device)
    return _distances(torch.from_numpy(logits)).numpy()


def _distances(logits: Tensor) -> Tensor:
    """1 - sigmoid(logit / LOGIT_SCALE), to full precision where it is small."""
    return torch.sigmoid(logits / -LOGIT_SCALE)
