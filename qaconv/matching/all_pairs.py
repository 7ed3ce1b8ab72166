"""Match some sightings with all of a target's sightings, in tiles.

N sightings: Q queries, then a gallery of G. Junk are crops that show nobody in particular.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from qaconv.matching.rerank import NeighbourhoodFinder
from qaconv.matching.results import NEIGHBOURS, Part, as_distances
from qaconv.matching.tiles import Engine, logit_tiles
from qaconv.models.head import QAConv


def match_rows(
    maps: NDArray[np.float32],
    rows: slice,
    head: QAConv,
    queries: int,
    is_real: NDArray[np.bool_],
    engine: Engine,
    device: torch.device,
    *,
    model: str,
) -> Part:
    """Match the sightings in `rows` with all N, and keep the queries' logits and each sighting's neighbourhood.

    Args:
        maps: maps of all sightings, queries first, [N, C, H, W].
        rows: indices of the sightings to match.
        head: the network's head.
        queries: number of queries, Q.
        is_real: whether each sighting is a query or shows a person, [N]; the others are junk.
        engine: "exact" or "int8", as in `logit_tiles`.
        device: device to match on.
        model: digest of the network's weights.
    """
    rows_of_queries = max(0, min(rows.stop, queries) - rows.start)
    logits = np.empty((rows_of_queries, len(maps) - queries), dtype=np.float32)
    everything = without_junk = NeighbourhoodFinder(len(maps), NEIGHBOURS + 1, rows)
    real_before = np.concatenate([[0], is_real.cumsum()])  # number of real sightings before each sighting
    if not is_real.all():
        without_junk = NeighbourhoodFinder(int(real_before[-1]), NEIGHBOURS + 1, _renumber(rows, real_before))
    row_maps = maps if rows == slice(0, len(maps)) else maps[rows]  # the same object is matched one way
    for tile in logit_tiles(row_maps, maps, head, engine=engine, device=device, progress=True):
        tile_rows = slice(rows.start + tile.rows.start, rows.start + tile.rows.stop)
        columns = tile.columns
        across = tile.logits[: max(0, queries - tile_rows.start), max(0, queries - columns.start) :]
        first = max(0, columns.start - queries)
        logits[tile.rows.start : tile.rows.start + across.shape[0], first : first + across.shape[1]] = across
        distances = as_distances(tile.logits)
        everything.add(tile_rows, columns, distances)
        if without_junk is not everything:
            real_distances = distances[is_real[tile_rows]][:, is_real[columns]]
            without_junk.add(_renumber(tile_rows, real_before), _renumber(columns, real_before), real_distances)
    neighbourhoods = everything.neighbourhoods()
    neighbourhoods_without_junk = neighbourhoods if without_junk is everything else without_junk.neighbourhoods()
    return Part(logits, neighbourhoods, neighbourhoods_without_junk, model)


def _renumber(sightings: slice, real_before: NDArray[np.integer]) -> slice:
    """Return the indices of a slice's real sightings among all real sightings."""
    return slice(int(real_before[sightings.start]), int(real_before[sightings.stop]))
