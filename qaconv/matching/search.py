"""Feature maps go in; every pair's logit, or each query's best gallery images, come out."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.matching.tiles import Engine, Maps, logit_tiles
from qaconv.models.head import QAConv


class Neighbours(NamedTuple):
    """Each query's best gallery images, best first; equal logits in the gallery's order."""

    scores: NDArray[np.float32]  # logits [Q, top_k]
    indices: NDArray[np.int64]  # into the gallery [Q, top_k]


def score_matrix(
    query_maps: Maps,
    gallery_maps: Maps,
    head: QAConv,
    *,
    engine: Engine = "exact",
    device: torch.device | None = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Logits [Q, G] of maps [Q, C, H, W] and [G, C, H, W]; higher is a better match.

    Arguments and what is raised are those of `logit_tiles`; beside the result, memory does not grow with Q x G.
    """
    logits = np.empty((len(query_maps), len(gallery_maps)), dtype=np.float32)
    for tile in logit_tiles(query_maps, gallery_maps, head, engine=engine, device=device, progress=progress):
        logits[tile.rows, tile.columns] = tile.logits.numpy()
    return logits


def search(
    query_maps: Maps,
    gallery: Maps,
    head: QAConv,
    *,
    top_k: int,
    engine: Engine = "exact",
    device: torch.device | None = None,
    progress: bool = False,
) -> Neighbours:
    """The `top_k` gallery images with the best logits for each query; memory does not grow with Q x G.

    Arguments are those of `logit_tiles`, and:

    Args:
        top_k: 1..G.

    Raises:
        ValueError: an impossible top_k, an unknown engine, or maps of another shape than the head was made for.
    """
    if not 1 <= top_k <= len(gallery):
        raise ValueError(f"top_k is {top_k}; legal is 1..{len(gallery)}, the gallery's size")
    best = torch.full((len(query_maps), top_k), torch.iinfo(torch.int64).min)
    for tile in logit_tiles(query_maps, gallery, head, engine=engine, device=device, progress=progress):
        columns = torch.arange(tile.columns.start, tile.columns.stop)
        keys = torch.cat([best[tile.rows], _keys(tile.logits, columns)], dim=1)
        best[tile.rows] = keys.topk(top_k, dim=1).values
    return _unpack(best)


def best_first(logits: Tensor, columns: Tensor, top_k: int) -> Neighbours:
    """The `top_k` best of logits [Q, n] of the gallery images `columns` [Q, n]."""
    return _unpack(_keys(logits, columns).topk(top_k, dim=1).values)


def _keys(logits: Tensor, columns: Tensor) -> Tensor:
    """Integers that sort as (logit, then the earlier column): no tie is left to the order of tiles.

    A float's bits sort as an integer where it is positive, and the other way round where it is negative.
    """
    bits = (logits + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) + (0xFFFFFFFF - columns)


def _unpack(keys: Tensor) -> Neighbours:
    ordered = (keys >> 32).int()
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return Neighbours(bits.view(torch.float32).numpy(), (0xFFFFFFFF - (keys & 0xFFFFFFFF)).numpy())
