"""Feature maps and the pairs that are asked for go in; their logits come out."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.matching.tiles import Engine, choose_matcher, load_block
from qaconv.models.head import QAConv

BLOCK_PAIRS = 512  # at a time: at most so many maps of either side are copied


@torch.no_grad()
def score_pairs(
    maps: Tensor,
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    head: QAConv,
    *,
    engine: Engine = "exact",
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """Logits [n] of n pairs of images among `maps`; what `score_matrix` has at those places.

    Args:
        maps: [N, C, H, W], unit length over C.
        rows: [n], the images that stand as queries.
        columns: [n], those that they are matched with.
        head: its running statistics are used, whatever its mode.
        engine: as in `score_matrix`.
        device: the same.
    """
    matcher = choose_matcher(head, device)
    logits = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_PAIRS):
        block = slice(start, start + BLOCK_PAIRS)
        (queries, query_index), (gallery, gallery_index) = (
            torch.from_numpy(side[block].astype(np.int64)).unique(return_inverse=True) for side in (rows, columns)
        )
        prepared = matcher.prepare(load_block(maps[queries], slice(None), engine))
        of_gallery = load_block(maps[gallery], slice(None), engine)
        logits[block] = matcher.pairs(prepared, of_gallery, query_index, gallery_index).numpy()
    return logits
