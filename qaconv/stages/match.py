"""A deployment's maps go in; what appearance says of its sightings comes out, each pair of them matched once."""

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import logit
from torch import Tensor

from qaconv.config import METHODS, EvaluateConfig, Params
from qaconv.device import find_device
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.manifest import JUNK, Manifest
from qaconv.matching import MapStore, logit_tiles, score_pairs
from qaconv.models import QAConv
from qaconv.models.checkpoint import load_network, weights_digest
from qaconv.rerank import Distances, NeighbourhoodFinder, Neighbourhoods, k_reciprocal_sparse
from qaconv.stages.places import FEATURES, MATCHES, MODELS, PREPARED

NEIGHBOURS = 100  # of each sighting: more than any person's sightings on the other cameras
LOGIT_SCALE = 10.0  # of the probabilities that distances are made of, as the authors' first release shows them


def match(params: Params, deployment: str) -> None:
    """Writes artifacts/matches/<deployment>/<method>.safetensors for each method.

    Raises:
        InputError: the maps are of other images or of another network, or the device is not there.
    """
    sightings = Manifest.load(PREPARED / deployment).frame.query("split != 'train'")
    queries = int((sightings["split"] == "query").sum())
    standing = ((sightings["split"] == "query") | (sightings["pid"] != JUNK)).to_numpy(copy=True)
    device = find_device(params.machine.device)
    with replacing_folder(MATCHES / deployment) as beside:
        for method in METHODS:
            folder, digest = FEATURES / deployment / method, weights_digest(MODELS / method)
            store = MapStore(folder, model=digest)
            if store.ids.tolist() != sightings["image"].tolist():
                raise InputError(f"{folder}: holds maps of other images than {PREPARED / deployment}; run `dvc repro`")
            maps, head = store.block(0, len(store)), load_network(MODELS / method)[0].head
            found = match_sightings(maps, head, queries, standing, params.evaluate, device, model=digest)
            found.save(beside / f"{method}.safetensors")


@dataclass(frozen=True)
class Matches:
    """What appearance says of N sightings: Q queries, then a gallery of G, of which J are junk.

    Attributes:
        logits: float32 [Q, G].
        reranked: float32 [Q, G], 1 - the re-ranked distance; no pid has a part in it.
        reranked_without_junk: float32 [Q, G - J], the same as if junk had not been there, as benchmarks ask for.
        neighbours: int64 [N, k], each sighting's nearest others, best first.
        neighbour_logits: float64 [N, k], theirs.
        model: digest of the weights that made the maps.
    """

    logits: NDArray[np.float32]
    reranked: NDArray[np.float32]
    reranked_without_junk: NDArray[np.float32]
    neighbours: NDArray[np.int64]
    neighbour_logits: NDArray[np.float64]
    model: str

    def save(self, path: Path) -> None:
        """Into a new file."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)[:-1]}
        save_file(arrays, path, metadata={"model": self.model})

    @classmethod
    def load(cls, deployment: str, method: str) -> "Matches":
        """What the stage has written; Raises InputError: it has not run."""
        path = MATCHES / deployment / f"{method}.safetensors"
        if not path.is_file():
            raise InputError(f"{path} does not exist; `dvc repro match@{deployment}` writes it")
        with safe_open(path, "numpy") as file:
            arrays = {field.name: file.get_tensor(field.name) for field in fields(cls)[:-1]}
            return cls(**arrays, model=file.metadata()["model"])

    def nearest_reranked(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """[N, k] both: each query's best of the gallery by re-ranked score, and their scores; NaN for the gallery."""
        queries, width = len(self.reranked), min(NEIGHBOURS, self.reranked.shape[1])
        indices, scores = (
            np.zeros((len(self.neighbours), width), np.int64),
            np.full((len(self.neighbours), width), np.nan),
        )
        best = np.argsort(-self.reranked, axis=1, kind="stable")[:, :width]
        indices[:queries], scores[:queries] = queries + best, np.take_along_axis(self.reranked, best, axis=1)
        return indices, scores


def match_sightings(
    maps: Tensor,
    head: QAConv,
    queries: int,
    standing: NDArray[np.bool_],
    settings: EvaluateConfig,
    device: torch.device,
    *,
    model: str,
) -> Matches:
    """All sightings with all, in tiles; from each tile what is asked for.

    Args:
        maps: [N, C, H, W], queries first.
        head: of the network.
        queries: how many of them.
        standing: [N], what is no junk; every query is none.
        settings: the engine, and how to re-rank.
        device: where to match.
        model: digest of the network's weights.
    """
    logits = np.empty((queries, len(maps) - queries), dtype=np.float32)
    everything = NeighbourhoodFinder(len(maps), NEIGHBOURS + 1)
    without_junk = everything if standing.all() else NeighbourhoodFinder(int(standing.sum()), NEIGHBOURS + 1)
    place = np.concatenate([[0], standing.cumsum()])  # of each sighting among those that are no junk
    for rows, columns, tile in logit_tiles(maps, maps, head, engine=settings.engine, device=device, progress=True):
        across = tile[: max(0, queries - rows.start), max(0, queries - columns.start) :].numpy()
        first = max(0, columns.start - queries)
        logits[rows.start : rows.start + across.shape[0], first : first + across.shape[1]] = across
        distances = _distances(tile)
        everything.add(rows, columns, distances)
        if without_junk is not everything:
            kept = distances[torch.from_numpy(standing[rows])][:, torch.from_numpy(standing[columns])]
            without_junk.add(_renumbered(rows, place), _renumbered(columns, place), kept)

    found = everything.found()
    pairs = partial(_pair_distances, maps, head, settings, device)
    reranked = _rerank(logits, found, pairs, settings)
    if without_junk is everything:
        reranked_without_junk = reranked
    else:
        kept_of = np.flatnonzero(standing)
        reranked_without_junk = _rerank(
            logits[:, standing[queries:]],
            without_junk.found(),
            lambda rows, columns: pairs(kept_of[rows], kept_of[columns]),
            settings,
        )
    return Matches(logits, reranked, reranked_without_junk, *_others(found), model)


def _renumbered(sightings: slice, place: NDArray[np.integer]) -> slice:
    return slice(int(place[sightings.start]), int(place[sightings.stop]))


def _rerank(
    logits: NDArray[np.float32], found: Neighbourhoods, pairs: Distances, settings: EvaluateConfig
) -> NDArray[np.float32]:
    distances = _distances(torch.from_numpy(logits)).numpy()
    return 1 - k_reciprocal_sparse(distances, found, pairs, **settings.rerank.model_dump())


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


def _others(found: Neighbourhoods) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """[N, k] both: each image's nearest but itself, and their logits."""
    others = found.indices != np.arange(len(found.indices))[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(others), others.shape[1] - 1)
    return found.indices[others].reshape(shape), -LOGIT_SCALE * logit(found.distances[others].reshape(shape))
