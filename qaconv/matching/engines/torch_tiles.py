"""Match blocks of feature maps on a device by torch's products, in pieces that stay in cache.

Q queries, G gallery images, S locations, C channels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.matching.engines.blocks import DeviceBlock, move_block
from qaconv.runtime.head import Head

TABLE_BYTES = 2 << 20  # of the cosines at one time: what stays in cache between the product and the maxima


class TorchMatcher:
    """Match on any device, in float32; codes give the same logits up to rounding, and are not faster.

    Args:
        head: the folded head.
        device: where to match.
    """

    def __init__(self, head: Head, device: torch.device) -> None:
        self._query = torch.from_numpy(head.query).to(device)
        self._gallery = torch.from_numpy(head.gallery).to(device)
        self._bias = torch.tensor(head.bias, dtype=torch.float32, device=device)
        self._device = device

    def prepare(self, queries: DeviceBlock) -> Tensor:
        """Move a block of queries to the device, for `table` and `pairs`."""
        return move_block(queries, self._device)

    def table(self, queries: Tensor, gallery: DeviceBlock) -> NDArray[np.float32]:
        """Return logits [Q, G] of all pairs."""
        return self._table(queries, move_block(gallery, self._device)).cpu().numpy()

    def _table(self, queries: Tensor, maps: Tensor) -> Tensor:
        galleries, locations, _ = maps.shape
        if locations == 1:  # the table is the product: no maximum is taken
            # In float64, so that other blocks of the same images round to the same float32.
            cosines = (queries.squeeze(1).double() @ maps.squeeze(1).double().T).float()
            return cosines * (self._query + self._gallery) + self._bias
        logits = torch.empty(len(queries), galleries, device=self._device)
        width = max(1, TABLE_BYTES // (4 * locations * locations))
        for start in range(0, galleries, width):
            tile = maps[start : start + width]
            flat = tile.flatten(0, 1)
            for row, query in enumerate(queries):
                cosines = (flat @ query.T).unflatten(0, (-1, locations))  # [tile, S of gallery, S of query]
                query_side = cosines.amax(dim=1) @ self._query
                logits[row, start : start + len(tile)] = query_side + cosines.amax(dim=2) @ self._gallery
        return logits + self._bias

    def pairs(
        self,
        queries: Tensor,
        gallery: DeviceBlock,
        query_index: NDArray[np.int64],
        gallery_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return logits [n] of n pairs, given as indices [n] into both blocks."""
        maps = move_block(gallery, self._device)
        logits = np.empty(len(query_index), dtype=np.float32)
        for query in np.unique(query_index):
            chosen = np.flatnonzero(query_index == query)
            images = torch.from_numpy(gallery_index[chosen]).to(self._device)
            logits[chosen] = self._table(queries[query, None], maps[images])[0].cpu().numpy()
        return logits
