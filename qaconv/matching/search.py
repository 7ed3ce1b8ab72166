"""Score every pair of two sets of feature maps, or find each query's best gallery images.

Q queries, G gallery images, C channels, H x W map size.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.matching.tiles import Engine, FoldableHead, logit_tiles

if TYPE_CHECKING:
    import torch

    from qaconv.matching.tiles import Maps


class Neighbours(NamedTuple):
    """Each query's best gallery images, best first; equal logits in the gallery's order."""

    scores: NDArray[np.float32]  # logits [Q, top_k]
    indices: NDArray[np.int64]  # into the gallery [Q, top_k]


def score_matrix(
    query_maps: "Maps",
    gallery_maps: "Maps",
    head: FoldableHead,
    *,
    engine: Engine = "exact",
    device: "torch.device | None" = None,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Return logits [Q, G] of maps [Q, C, H, W] and [G, C, H, W]; higher is a better match.

    Except for the result, memory does not grow with Q x G.

    Args:
        query_maps: array, tensor or store of maps with unit length over C, [Q, C, H, W].
        gallery_maps: the same of the gallery, [G, C, H, W].
        head: a `QAConv` head, or what its `folded()` returns.
        engine: "exact" in float32, or "int8", which rounds maps to 8 bits. Default: "exact".
        device: torch device to match on. Default: None, the CPU without torch.
        progress: show a bar.

    Raises:
        ValueError: the engine is unknown, or maps have another shape than the head was made for or are not finite.

    Example:
        >>> import numpy as np
        >>> from qaconv.matching import score_matrix
        >>> from qaconv.runtime.head import Head
        >>> head = Head(query=np.full(2, 0.5, np.float32), gallery=np.full(2, 0.5, np.float32), bias=-1.0)
        >>> maps = np.array([[[[1, 0]], [[0, 1]]], [[[1, 1]], [[0, 0]]]], np.float32)
        >>> score_matrix(maps, maps, head)
        array([[1. , 0.5],
               [0.5, 1. ]], dtype=float32)
    """
    logits = np.empty((len(query_maps), len(gallery_maps)), dtype=np.float32)
    for tile in logit_tiles(query_maps, gallery_maps, head, engine=engine, device=device, progress=progress):
        logits[tile.rows, tile.columns] = tile.logits
    return logits


def search(
    query_maps: "Maps",
    gallery: "Maps",
    head: FoldableHead,
    *,
    top_k: int,
    engine: Engine = "exact",
    device: "torch.device | None" = None,
    progress: bool = False,
) -> Neighbours:
    """Find the `top_k` gallery images with the largest logits for each query; memory does not grow with Q x G.

    Args:
        query_maps: array, tensor or store of maps with unit length over C, [Q, C, H, W].
        gallery: the same of the gallery, [G, C, H, W].
        head: a `QAConv` head, or what its `folded()` returns.
        top_k: number of images to find for each query, 1..G.
        engine: "exact" in float32, or "int8", which rounds maps to 8 bits. Default: "exact".
        device: torch device to match on. Default: None, the CPU without torch.
        progress: show a bar.

    Raises:
        ValueError: `top_k` is not in 1..G, the engine is unknown, or maps have another shape than the head was made
            for or are not finite.

    Example:
        >>> import numpy as np
        >>> from qaconv.matching import search
        >>> from qaconv.runtime.head import Head
        >>> head = Head(query=np.ones(1, np.float32), gallery=np.ones(1, np.float32), bias=0.0)
        >>> gallery = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32).reshape(3, 2, 1, 1)
        >>> search(gallery[:1], gallery, head, top_k=2).indices
        array([[0, 2]])
    """
    if not isinstance(top_k, (int, np.integer)) or not 1 <= top_k <= len(gallery):
        raise ValueError(f"top_k must be in 1..{len(gallery)} (the gallery's size), got {top_k!r}")
    best = np.full((len(query_maps), top_k), np.iinfo(np.int64).min)
    for tile in logit_tiles(query_maps, gallery, head, engine=engine, device=device, progress=progress):
        keys = _keys(tile.logits, np.arange(tile.columns.start, tile.columns.stop))
        best[tile.rows] = _largest(np.concatenate([best[tile.rows], keys], axis=1), top_k)
    return _unpack(best)


def best_first(logits: NDArray[np.float32], columns: NDArray[np.int64], top_k: int) -> Neighbours:
    """Return the `top_k` best of logits [Q, n] of the gallery images `columns` [Q, n]."""
    return _unpack(_largest(_keys(logits, columns), top_k))


def _keys(logits: NDArray[np.float32], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return integers that sort as (logit, then the earlier column): no tie is left to the order of tiles.

    A float's bits sort as an integer where it is positive, and the other way round where it is negative.
    """
    bits = (logits + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    keys: NDArray[np.int64] = (ordered << 32) + (0xFFFFFFFF - columns)
    return keys


def _largest(keys: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    return np.partition(keys, -count, axis=1)[:, -count:]


def _unpack(keys: NDArray[np.int64]) -> Neighbours:
    keys = np.sort(keys, axis=1)[:, ::-1]
    ordered = (keys >> 32).astype(np.int32)
    bits = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered)
    return Neighbours(bits.view(np.float32), 0xFFFFFFFF - (keys & 0xFFFFFFFF))
