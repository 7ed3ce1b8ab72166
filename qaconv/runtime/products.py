"""Match blocks of feature maps by numpy's matrix products, in pieces that stay in cache.

Q queries, G gallery images, S locations, C channels.
"""

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.quantise import Block, Codes, dequantise

TABLE_BYTES = 2 << 20  # of the cosines at one time: what stays in cache between the product and the maxima


class ProductMatcher:
    """Match in float32, where no kernel can be built or maps have one location.

    Codes give the same logits up to rounding, and are not faster.

    Args:
        head: the folded head.
    """

    def __init__(self, head: Head) -> None:
        self._head = head

    def prepare(self, queries: Block) -> NDArray[np.float32]:
        """Return a block of queries as float32 [Q, S, C], for `table` and `pairs`."""
        return _floats(queries)

    def table(self, queries: NDArray[np.float32], gallery: Block) -> NDArray[np.float32]:
        """Return logits [Q, G] of all pairs."""
        maps = _floats(gallery)
        head = self._head
        bias = np.float32(head.bias)
        galleries, locations, _ = maps.shape
        if locations == 1:  # the table is the product: no maximum is taken
            # In float64, so that other blocks of the same images round to the same float32.
            products = queries[:, 0].astype(np.float64) @ maps[:, 0].T.astype(np.float64)
            return products.astype(np.float32) * (head.query + head.gallery) + bias
        logits = np.empty((len(queries), galleries), dtype=np.float32)
        width = max(1, TABLE_BYTES // (4 * locations * locations))
        for start in range(0, galleries, width):
            tile = maps[start : start + width]
            flat = tile.reshape(-1, tile.shape[2])
            for row, query in enumerate(queries):
                cosines = (flat @ query.T).reshape(-1, locations, locations)  # [tile, S of gallery, S of query]
                query_side = cosines.max(axis=1) @ head.query
                logits[row, start : start + len(tile)] = query_side + cosines.max(axis=2) @ head.gallery
        return logits + bias

    def pairs(
        self,
        queries: NDArray[np.float32],
        gallery: Block,
        query_index: NDArray[np.int64],
        gallery_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return logits [n] of n pairs, given as indices [n] into both blocks."""
        logits = np.empty(len(query_index), dtype=np.float32)
        for query in np.unique(query_index):
            chosen = np.flatnonzero(query_index == query)
            images = gallery_index[chosen]
            maps = gallery.take(images) if isinstance(gallery, Codes) else gallery[images]
            logits[chosen] = self.table(queries[query, None], maps)[0]
        return logits


def _floats(block: Block) -> NDArray[np.float32]:
    return dequantise(block) if isinstance(block, Codes) else block.astype(np.float32, copy=False)
