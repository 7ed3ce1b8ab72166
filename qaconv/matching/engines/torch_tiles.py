"""Blocks of feature maps go in; logits come out of torch's products, in pieces that stay in cache.

Q queries, G gallery images, S locations, C channels.
"""

import torch
from torch import Tensor

from qaconv.matching.quantise import Block, Codes, dequantise
from qaconv.runtime.head import Head

TABLE_BYTES = 2 << 20  # of the cosines at one time: what stays in cache between the product and the maxima


class TorchMatcher:
    """Matches on any device, in float32; products of 8-bit codes are the same up to rounding, not faster.

    Args:
        head: the folded head.
        device: where to match.
    """

    def __init__(self, head: Head, device: torch.device) -> None:
        self._query = torch.from_numpy(head.query).to(device)
        self._gallery = torch.from_numpy(head.gallery).to(device)
        self._bias = torch.tensor(head.bias, dtype=torch.float32, device=device)
        self._device = device

    def prepare(self, queries: Block) -> Tensor:
        """A block of queries on the device, as `table` and `pairs` want it."""
        return self._floats(queries)

    def table(self, queries: Tensor, gallery: Block) -> Tensor:
        """Logits [Q, G] of all pairs."""
        maps = self._floats(gallery)
        galleries, locations, _ = maps.shape
        if locations == 1:  # the table is the product: no maximum is taken
            # In float64, so that other blocks of the same images round to the same float32.
            cosines = (queries.squeeze(1).double() @ maps.squeeze(1).double().T).float()
            return (cosines * (self._query + self._gallery) + self._bias).cpu()
        logits = torch.empty(len(queries), galleries, device=self._device)
        width = max(1, TABLE_BYTES // (4 * locations * locations))
        for start in range(0, galleries, width):
            tile = maps[start : start + width]
            flat = tile.flatten(0, 1)
            for row, query in enumerate(queries):
                cosines = (flat @ query.T).unflatten(0, (-1, locations))  # [tile, S of gallery, S of query]
                of_query, of_gallery = cosines.amax(dim=1), cosines.amax(dim=2)
                logits[row, start : start + len(tile)] = of_query @ self._query + of_gallery @ self._gallery
        return (logits + self._bias).cpu()

    def pairs(self, queries: Tensor, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Logits [n] of n pairs, given as int64 [n] into both blocks."""
        maps = self._floats(gallery)
        logits = torch.empty(len(query_index))
        for query in query_index.unique():
            chosen = query_index == query
            logits[chosen] = self.table(queries[query, None], maps[gallery_index[chosen].to(maps.device)])[0]
        return logits

    def _floats(self, block: Block) -> Tensor:
        if isinstance(block, Codes):
            return dequantise(Codes(*(part.to(self._device) for part in block)))
        return block.to(self._device)
