"""Match some sightings with all of a target's sightings, in tiles.

N sightings: Q queries, then a gallery of G. Results are about the measured ones: no junk, for example.
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
    is_measured: NDArray[np.bool_],
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
        is_measured: whether results are about a sighting, [N].
        engine: "exact" or "int8", as in `logit_tiles`.
        device: device to match on.
        model: digest of the network's weights.
    """
    rows_of_queries = max(0, min(rows.stop, queries) - rows.start)
    logits = np.empty((rows_of_queries, len(maps) - queries), dtype=np.float32)
    everything = measured = NeighbourhoodFinder(len(maps), NEIGHBOURS + 1, rows)
    measured_before = np.concatenate([[0], is_measured.cumsum()])  # number of measured sightings before each one
    if not is_measured.all():
        measured = NeighbourhoodFinder(int(measured_before[-1]), NEIGHBOURS + 1, _renumber(rows, measured_before))
    row_maps = maps if rows == slice(0, len(maps)) else maps[rows]  # the same object is matched one way
    for tile in logit_tiles(row_maps, maps, head, engine=engine, device=device, progress=True):
        tile_rows = slice(rows.start + tile.rows.start, rows.start + tile.rows.stop)
        columns = tile.columns
        across = tile.logits[: max(0, queries - tile_rows.start), max(0, queries - columns.start) :]
        first = max(0, columns.start - queries)
        logits[tile.rows.start : tile.rows.start + across.shape[0], first : first + across.shape[1]] = across
        distances = as_distances(tile.logits)
        everything.add(tile_rows, columns, distances)
        if measured is not everything:
            measured_distances = distances[is_measured[tile_rows]][:, is_measured[columns]]
            kept_rows, kept_columns = _renumber(tile_rows, measured_before), _renumber(columns, measured_before)
            measured.add(kept_rows, kept_columns, measured_distances)
    neighbourhoods = everything.neighbourhoods()
    neighbourhoods_of_measured = neighbourhoods if measured is everything else measured.neighbourhoods()
    return Part(logits, neighbourhoods, neighbourhoods_of_measured, model)


def _renumber(sightings: slice, measured_before: NDArray[np.integer]) -> slice:
    """Return the indices of a slice's measured sightings among all measured sightings."""
    return slice(int(measured_before[sightings.start]), int(measured_before[sightings.stop]))
