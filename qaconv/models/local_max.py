"""Find the best cosine of each location in each image of another set of feature maps.

Q query images, G gallery images, S locations a map, C channels. Plain autograd holds an S x S table of cosines for
each pair and another for its gradient, which fill a GPU. Here a table is freed after its tile. The gradient needs only
the index of each best partner: a byte or two for each location of each pair.
"""

from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CPU_TILE_BYTES = 4 << 20  # of cosines: they fit into a core's cache
GPU_TILE_BYTES = 256 << 20  # of cosines: enough to keep a GPU busy
HAS_TRITON = find_spec("triton") is not None
BLOCK = 16  # images whose gradient is gathered at a time


def best_partners(query_maps: Tensor, gallery_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Find the best cosine of each location in each image of the other set of maps.

    Of equal cosines the first location counts, as in `torch.max`, and the gradient goes to that pair of locations. The
    gradient is the same bit for bit in every run. Autocast halves the precision of the cosines, not of the gradient.

    Args:
        query_maps: [Q, C, h, w].
        gallery_maps: [G, C, h, w]. If it is the same tensor, as in training, only one direction is computed.

    Returns:
        The best cosine of each query location in each gallery image, [Q, S, G], and of each gallery location in each
        query image, [G, S, Q].
    """
    query, gallery = (maps.flatten(2).transpose(1, 2).contiguous() for maps in (query_maps, gallery_maps))
    if gallery_maps is query_maps:
        (best,) = _BestPartners.apply(query, query, False)
        return best, best
    query_best, gallery_best = _BestPartners.apply(query, gallery, True)
    return query_best, gallery_best


class _BestPartners(torch.autograd.Function):
    """Find the best cosines [Q, S, G] of maps [Q, S, C] and [G, S, C], and in both directions also [G, S, Q]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, gallery: Tensor, both: bool) -> tuple[Tensor, ...]:
        find = kernels.find if (kernels := _kernels(query)) else _find
        directions = find(query, gallery, both, _index_type(query.shape[1]))
        best, winners = zip(*directions, strict=True)
        ctx.save_for_backward(query, gallery, *winners)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, gallery, *winners = ctx.saved_tensors
        for_query, for_gallery, _ = ctx.needs_input_grad
        kernels = _kernels(query)
        gather, scatter = (kernels.gather, kernels.scatter) if kernels else (_gather, _scatter)
        query_grad = gather(gradients[0], gallery, winners[0]) if for_query else None
        gallery_grad = scatter(gradients[0], query, winners[0]) if for_gallery else None
        if len(winners) == 2:
            if query_grad is not None:
                query_grad = query_grad + scatter(gradients[1], gallery, winners[1])
            if gallery_grad is not None:
                gallery_grad = gallery_grad + gather(gradients[1], query, winners[1])
        return query_grad, gallery_grad, None


def _kernels(maps: Tensor) -> ModuleType | None:
    """Return the Triton kernels if the maps are on a GPU whose memory suffices, else None: torch computes the same."""
    if not maps.is_cuda or maps.dtype == torch.float64 or not HAS_TRITON:
        return None
    from qaconv.models import local_max_cuda  # only PyTorch for CUDA comes with Triton

    return local_max_cuda if local_max_cuda.fits(maps) else None


def _find(query: Tensor, gallery: Tensor, both: bool, winners_type: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Find the best cosines and their indices, [Q, S, G] each, and in both directions also [G, S, Q] each."""
    queries, galleries, locations = len(query), len(gallery), query.shape[1]
    shapes = [(queries, locations, galleries), (galleries, locations, queries)][: 1 + both]
    best = [query.new_empty(shape) for shape in shapes]
    winners = [torch.empty(shape, dtype=winners_type, device=query.device) for shape in shapes]
    for rows, columns in _tiles(queries, galleries, 4 * locations**2, query.device):
        product = query[rows].flatten(0, 1) @ gallery[columns].flatten(0, 1).T
        table = product.reshape(-1, locations, columns.stop - columns.start, locations)
        maxima = table.max(dim=3)
        best[0][rows, :, columns] = maxima.values
        winners[0][rows, :, columns] = maxima.indices
        if both:
            maxima = table.permute(2, 3, 0, 1).contiguous().max(dim=3)  # a copy is faster than max across rows
            best[1][columns, :, rows] = maxima.values
            winners[1][columns, :, rows] = maxima.indices
    return list(zip(best, winners, strict=True))


def _gather(gradient: Tensor, other: Tensor, winners: Tensor) -> Tensor:
    """Compute the gradient [N, S, C] of the locations that chose: the weighted sum of their partners in M images.

    Args:
        gradient: gradient of the best cosines, [N, S, M].
        other: maps of the other images, [M, S, C].
        winners: index of each best partner, [N, S, M].
    """
    images, locations, others = winners.shape
    vectors = other.reshape(others * locations, -1)
    first = torch.arange(others, device=other.device) * locations
    return torch.cat(
        [
            F.embedding_bag((part + first).reshape(-1, others), vectors, None, mode="sum", per_sample_weights=weights)
            for part, weights in zip(
                winners.split(BLOCK), gradient.reshape(-1, others).split(BLOCK * locations), strict=True
            )
        ]
    ).reshape(images, locations, -1)


def _scatter(gradient: Tensor, choosing: Tensor, winners: Tensor) -> Tensor:
    """Compute the gradient [M, S, C] of the chosen locations: the weighted sum of the locations that chose them.

    The choosers are sorted by their choice, so those of one location are adjacent. Unlike in a scatter, no two threads
    add to one location, so the order of the sum is fixed.

    Args:
        gradient: gradient of the best cosines, [N, S, M].
        choosing: maps of the images that chose, [N, S, C].
        winners: index of each best partner, [N, S, M].
    """
    images, locations, others = winners.shape
    vectors = choosing.reshape(images * locations, -1)
    places = torch.arange(locations, dtype=winners.dtype, device=choosing.device)
    sums = []
    for part, weights in zip(
        winners.flatten(0, 1).split(BLOCK, dim=1), gradient.flatten(0, 1).split(BLOCK, dim=1), strict=True
    ):
        chosen, choosers = part.T.contiguous().sort(dim=1, stable=True)
        first = torch.arange(len(chosen), device=choosing.device)[:, None] * len(vectors)
        starts = torch.searchsorted(chosen, places.expand(len(chosen), -1).contiguous()) + first
        sorted_weights = weights.T.gather(1, choosers)
        sums.append(
            F.embedding_bag(
                choosers.flatten(),
                vectors,
                starts.flatten(),
                mode="sum",
                per_sample_weights=sorted_weights.flatten(),
            )
        )
    return torch.cat(sums).reshape(others, locations, -1)


def _tiles(images: int, others: int, pair_bytes: int, device: torch.device) -> list[tuple[slice, slice]]:
    """Cut the pairs of images into tiles that fit into memory."""
    pairs = max(1, (CPU_TILE_BYTES if device.type == "cpu" else GPU_TILE_BYTES) // pair_bytes)
    width = min(pairs, others)
    height = max(1, pairs // max(width, 1))
    return [
        (slice(row, min(row + height, images)), slice(column, min(column + width, others)))
        for row in range(0, images, height)
        for column in range(0, others, width)
    ]


def _index_type(locations: int) -> torch.dtype:
    """Return the smallest type that holds an index in 0..locations-1."""
    return torch.uint8 if locations <= 256 else torch.int16 if locations <= 2**15 else torch.int32
