"""A target's maps go in; what a share of its sightings finds among all of them comes out.

Shares are independent of each other, so several workers can match one target. Where one share is everything, each
pair is matched once; where there are several, a pair is matched once for each of its two sightings.
"""

import shutil

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.config import METHODS, EvaluateConfig, Params
from qaconv.data.manifest import Manifest
from qaconv.errors import InputError
from qaconv.files import replacing_folder
from qaconv.matching import logit_tiles
from qaconv.matching.rerank import NeighbourhoodFinder
from qaconv.matching.results import NEIGHBOURS, Part, as_distances, not_junk, open_maps, share
from qaconv.models import QAConv
from qaconv.models.checkpoint import load_network
from qaconv.paths import MATCHES, MODELS, PREPARED
from qaconv.training.device import find_device, out_of_memory_names


def match(params: Params, target: str, part: int) -> None:
    """Writes artifacts/matches/<target>/<part>/<method>.safetensors for each method; another split's are removed.

    Raises:
        InputError: there is no such part, the maps are of other images or another network, or the device is not there.
    """
    parts = params.evaluate.parts
    if part not in parts:
        raise InputError(f"--part is {part}; legal is one of evaluate.parts in params.yaml, {parts}")
    sightings = Manifest.load(PREPARED / target).sightings()
    queries = int((sightings["split"] == "query").sum())
    standing = not_junk(sightings)
    device, rows = find_device(params.machine.device), share(len(sightings), part, len(parts))
    _remove_others(target, parts)
    remedy = "let machine.device be one with more free memory, or cpu,"
    with out_of_memory_names(remedy), replacing_folder(MATCHES / target / str(part)) as beside:
        for method in METHODS:
            store = open_maps(target, method, sightings["image"])
            maps, head = store.block(0, len(store)), load_network(MODELS / method)[0].head
            found = match_rows(maps, rows, head, queries, standing, params.evaluate, device, model=store.model)
            found.save(beside / f"{method}.safetensors")


def _remove_others(target: str, parts: tuple[int, ...]) -> None:
    for path in MATCHES.joinpath(target).glob("*"):
        if path.name not in map(str, parts):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def match_rows(
    maps: NDArray[np.float32],
    rows: slice,
    head: QAConv,
    queries: int,
    standing: NDArray[np.bool_],
    settings: EvaluateConfig,
    device: torch.device,
    *,
    model: str,
) -> Part:
    """Some sightings with all, in tiles; from each tile what is asked for.

    Args:
        maps: [N, C, H, W], queries first.
        rows: which of them.
        head: of the network.
        queries: how many of the maps.
        standing: [N], what is no junk; every query is none.
        settings: the engine.
        device: where to match.
        model: digest of the network's weights.
    """
    logits = np.empty((max(0, min(rows.stop, queries) - rows.start), len(maps) - queries), dtype=np.float32)
    everything = without_junk = NeighbourhoodFinder(len(maps), NEIGHBOURS + 1, rows)
    place = np.concatenate([[0], standing.cumsum()])  # of each sighting among those that are no junk
    if not standing.all():
        without_junk = NeighbourhoodFinder(int(place[-1]), NEIGHBOURS + 1, _renumbered(rows, place))
    asking = maps if rows == slice(0, len(maps)) else maps[rows]  # the very same maps are matched one way
    for tile in logit_tiles(asking, maps, head, engine=settings.engine, device=device, progress=True):
        own, columns = slice(rows.start + tile.rows.start, rows.start + tile.rows.stop), tile.columns
        across = tile.logits[: max(0, queries - own.start), max(0, queries - columns.start) :]
        first = max(0, columns.start - queries)
        logits[tile.rows.start : tile.rows.start + across.shape[0], first : first + across.shape[1]] = across
        distances = as_distances(tile.logits)
        everything.add(own, columns, distances)
        if without_junk is not everything:
            kept = distances[standing[own]][:, standing[columns]]
            without_junk.add(_renumbered(own, place), _renumbered(columns, place), kept)
    found = everything.neighbourhoods()
    return Part(logits, found, found if without_junk is everything else without_junk.neighbourhoods(), model)


def _renumbered(sightings: slice, place: NDArray[np.integer]) -> slice:
    return slice(int(place[sightings.start]), int(place[sightings.stop]))
