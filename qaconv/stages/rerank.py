"""What each of a target's sightings found among all goes in; scores that heed who else is near come out."""

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.config import METHODS, EvaluateConfig, Params
from qaconv.data.manifest import Manifest
from qaconv.files import replacing_folder
from qaconv.matching import score_pairs
from qaconv.matching.rerank import Distances, Neighbourhoods, k_reciprocal_sparse
from qaconv.matching.results import as_distances, load_parts, not_junk, open_maps, save_reranked
from qaconv.models import QAConv
from qaconv.models.checkpoint import load_network
from qaconv.paths import MODELS, PREPARED, RERANKED
from qaconv.training.device import find_device, out_of_memory_names


def rerank(params: Params, target: str) -> None:
    """Writes artifacts/reranked/<target>/<method>.safetensors for each method.

    Raises:
        InputError: the sightings have not been matched, or were with another network; or the device is not there.
    """
    sightings = Manifest.load(PREPARED / target).sightings()
    standing = np.flatnonzero(not_junk(sightings))
    queries, device = int((sightings["split"] == "query").sum()), find_device(params.machine.device)
    settings = params.evaluate
    remedy = "let machine.device be one with more free memory, or cpu,"
    with out_of_memory_names(remedy), replacing_folder(RERANKED / target) as beside:
        for method in METHODS:
            store = open_maps(target, method, sightings["image"])
            matched = load_parts(target, method, settings.parts)
            head = load_network(MODELS / method)[0].head
            pairs = partial(_pair_distances, store.block(0, len(store)), head, settings, device)
            scores, without_junk = _rerank(matched.logits, matched.everything, pairs, settings), None
            if matched.without_junk is not matched.everything:
                logits = matched.logits[:, standing[queries:] - queries]
                renumbered = partial(_renumbered_pairs, pairs, standing)
                without_junk = _rerank(logits, matched.without_junk, renumbered, settings)
            save_reranked(beside / f"{method}.safetensors", scores, without_junk, matched.model)


def _rerank(
    logits: NDArray[np.float32], found: Neighbourhoods, pairs: Distances, settings: EvaluateConfig
) -> NDArray[np.float32]:
    return 1 - k_reciprocal_sparse(as_distances(logits), found, pairs, **settings.rerank.model_dump())


def _pair_distances(
    maps: NDArray[np.float32],
    head: QAConv,
    settings: EvaluateConfig,
    device: torch.device,
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.float32]:
    return as_distances(score_pairs(maps, rows, columns, head, engine=settings.engine, device=device))


def _renumbered_pairs(
    pairs: Distances, standing: NDArray[np.integer], rows: NDArray[np.integer], columns: NDArray[np.integer]
) -> NDArray[np.floating]:
    return pairs(standing[rows], standing[columns])
