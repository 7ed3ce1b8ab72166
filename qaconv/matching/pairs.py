"""Score chosen pairs of feature maps.

N images, n pairs, C channels, H x W map size.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qaconv.matching.store import MapStore, as_array
from qaconv.matching.tiles import Engine, FoldableHead, check_engine, check_finite, check_shape, choose_matcher
from qaconv.runtime.locations import as_locations
from qaconv.runtime.quantise import Block, quantise

if TYPE_CHECKING:
    import torch

    from qaconv.matching.tiles import Maps

BLOCK_PAIRS = 512  # at a time: at most so many maps of either side are copied


def score_pairs(
    maps: "Maps",
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    head: FoldableHead,
    *,
    engine: Engine = "exact",
    device: "torch.device | None" = None,
) -> NDArray[np.float32]:
    """Return logits [n] of n pairs of images among `maps`: those of `score_matrix` at these rows and columns.

    Args:
        maps: array, tensor or store of maps [N, C, H, W], unit length over C.
        rows: indices of the images that are queries, [n].
        columns: indices of the images that they are matched with, [n].
        head: the head, as in `score_matrix`.
        engine: "exact" or "int8".
        device: torch device to match on. Default: None, the CPU without torch.

    Raises:
        ValueError: the engine is unknown, or maps have another shape than the head was made for or are not finite.
    """
    check_engine(engine)
    folded = head.folded()
    check_shape("maps", maps, folded)
    matcher = choose_matcher(folded, device)
    images = maps if isinstance(maps, MapStore) else as_array(maps)
    logits = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        queries, query_index = np.unique(rows[block], return_inverse=True)
        gallery, gallery_index = np.unique(columns[block], return_inverse=True)
        prepared = matcher.prepare(_load(images, queries, engine))
        gallery_block = _load(images, gallery, engine)
        logits[block] = matcher.pairs(prepared, gallery_block, query_index, gallery_index)
    return logits


def _load(maps: NDArray[Any] | MapStore, chosen: NDArray[np.int64], engine: Engine) -> Block:
    locations = as_locations(maps.take(chosen) if isinstance(maps, MapStore) else maps[chosen])
    check_finite("maps", locations, chosen.tolist())
    return quantise(locations) if engine == "int8" else locations
