"""Blocks of feature maps go in; logits come out of a Triton kernel: half precision products, no table in memory.

Tested in Triton's interpreter; no GPU has run it yet. Q queries, G gallery images, S locations, C channels.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from qaconv.matching.quantise import Block, Codes, dequantise
from qaconv.models.head import FoldedHead

ROWS = 32  # query locations at a time, against all locations of the gallery image
CHANNELS = 32  # at a time


class TritonMatcher:
    """Matches on a CUDA device: float16 products summed in float32, codes as float16 too.

    Args:
        folded: the head.
        device: a CUDA device.
    """

    def __init__(self, folded: FoldedHead, device: torch.device) -> None:
        self._folded = FoldedHead(*(part.to(device) for part in folded))
        self._device = device

    def prepare(self, queries: Block) -> Tensor:
        """A block of queries on the device, as `table` and `pairs` want it."""
        maps = dequantise(queries) if isinstance(queries, Codes) else queries
        return maps.to(self._device, torch.float16).contiguous()

    def table(self, queries: Tensor, gallery: Block) -> Tensor:
        """Logits [Q, G] of all pairs."""
        maps = self.prepare(gallery)
        logits = torch.empty(len(queries), len(maps), device=self._device)
        self._match(queries, maps, logits, logits, logits, indexed=False)
        return logits.cpu()

    def pairs(self, queries: Tensor, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Logits [n] of n pairs, given as int64 [n] into both blocks."""
        logits = torch.empty(len(query_index), device=self._device)
        indices = (query_index.to(self._device), gallery_index.to(self._device))
        self._match(queries, self.prepare(gallery), logits, *indices, indexed=True)
        return logits.cpu()

    def _match(
        self, queries: Tensor, gallery: Tensor, logits: Tensor, rows: Tensor, columns: Tensor, *, indexed: bool
    ) -> None:
        galleries, locations, channels = gallery.shape
        match_pair[(logits.numel(),)](
            queries,
            gallery,
            self._folded.query,
            self._folded.gallery,
            self._folded.bias,
            rows,
            columns,
            logits,
            galleries,
            locations,
            channels,
            INDEXED=indexed,
            ROWS=ROWS,
            COLUMNS=max(16, triton.next_power_of_2(locations)),
            CHANNELS=CHANNELS,
        )


@triton.jit
def match_pair(
    queries: Any,
    gallery: Any,
    query_weights: Any,
    gallery_weights: Any,
    bias: Any,
    query_index: Any,
    gallery_index: Any,
    logits: Any,
    galleries: Any,
    locations: Any,
    channels: Any,
    INDEXED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """One program a pair: rows of cosines against all the gallery's locations, both maxima kept in registers."""
    pair = tl.program_id(0).to(tl.int64)
    if INDEXED:
        query = tl.load(query_index + pair)
        image = tl.load(gallery_index + pair)
    else:
        query = pair // galleries
        image = pair % galleries
    column = tl.arange(0, COLUMNS)
    of_gallery = tl.full((COLUMNS,), float("-inf"), tl.float32)
    logit = tl.load(bias)
    for start in range(0, locations, ROWS):
        row = start + tl.arange(0, ROWS)
        cosines = tl.zeros((ROWS, COLUMNS), tl.float32)
        for first in range(0, channels, CHANNELS):
            channel = first + tl.arange(0, CHANNELS)
            left = tl.load(
                queries + (query * locations + row)[:, None] * channels + channel[None, :],
                mask=(row < locations)[:, None] & (channel < channels)[None, :],
                other=0.0,
            )
            right = tl.load(
                gallery + (image * locations + column)[None, :] * channels + channel[:, None],
                mask=(column < locations)[None, :] & (channel < channels)[:, None],
                other=0.0,
            )
            cosines += tl.dot(left, right)
        inside = (row < locations)[:, None] & (column < locations)[None, :]
        cosines = tl.where(inside, cosines, float("-inf"))
        weights = tl.load(query_weights + row, mask=row < locations, other=0.0)
        logit += tl.sum(tl.where(row < locations, tl.max(cosines, 1) * weights, 0.0))
        of_gallery = tl.maximum(of_gallery, tl.max(cosines, 0))
    weights = tl.load(gallery_weights + column, mask=column < locations, other=0.0)
    logit += tl.sum(tl.where(column < locations, of_gallery * weights, 0.0))
    tl.store(logits + pair, logit)
