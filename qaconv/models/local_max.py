"""Find the best cosine of each location in each image of another set of feature maps.

Q query images, G gallery images, S locations a map, C channels. Plain autograd holds an S x S table of cosines for
each pair, and as much again for its gradient: that is what fills a GPU. Here a table lives as long as its tile, and
what is kept for the gradient is where each best partner lies: a byte or two for each location of each pair.
"""

from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CPU_TILE_BYTES, GPU_TILE_BYTES = 4 << 20, 256 << 20  # of cosines: what a core's cache holds; what keeps a GPU busy
HAS_TRITON = find_spec("triton") is not None
BLOCK = 16  # images whose gradient is gathered at a time


def best_partners(query_maps: Tensor, gallery_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps [Q, C, h, w] and [G, C, h, w] to cosines [Q, S, G], the best of each query location in each gallery image,
    and [G, S, Q], the best of each gallery location in each query image.

    One tensor given twice, as in training, is matched one way: the other way is the same.

    Of equal cosines the first location counts, as in `torch.max`, and the gradient goes to that one pair of
    locations; it is the same bit for bit in every run. Autocast halves the precision of the cosines, and not that
    of the gradient.
    """
    query, gallery = (maps.flatten(2).transpose(1, 2).contiguous() for maps in (query_maps, gallery_maps))
    if gallery_maps is query_maps:
        (best,) = _BestPartners.apply(query, query, False)
        return best, best
    of_query, of_gallery = _BestPartners.apply(query, gallery, True)
    return of_query, of_gallery


class _BestPartners(torch.autograd.Function):
    """Maps [Q, S, C] and [G, S, C] to [Q, S, G], and to [G, S, Q] if both ways are asked for."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, gallery: Tensor, both: bool) -> tuple[Tensor, ...]:
        find = kernels.find if (kernels := _kernels(query)) else _find
        found = find(query, gallery, both, _index_type(query.shape[1]))
        best, winners = zip(*found, strict=True)
        ctx.save_for_backward(query, gallery, *winners)
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, gallery, *winners = ctx.saved_tensors
        for_query, for_gallery, _ = ctx.needs_input_grad
        kernels = _kernels(query)
        of_own, of_other = (kernels.of_own, kernels.of_other) if kernels else (_of_own, _of_other)
        of_query = of_own(gradients[0], gallery, winners[0]) if for_query else None
        of_gallery = of_other(gradients[0], query, winners[0]) if for_gallery else None
        if len(winners) == 2:
            of_query = of_query + of_other(gradients[1], gallery, winners[1]) if of_query is not None else None
            of_gallery = of_gallery + of_own(gradients[1], query, winners[1]) if of_gallery is not None else None
        return of_query, of_gallery, None


def _kernels(maps: Tensor) -> ModuleType | None:
    """The Triton kernels, where there is a GPU for them and they hold such maps; torch does the same elsewhere."""
    if not maps.is_cuda or maps.dtype == torch.float64 or not HAS_TRITON:
        return None
    from qaconv.models import local_max_cuda  # Triton comes with PyTorch for CUDA alone

    return local_max_cuda if local_max_cuda.fits(maps) else None


def _find(query: Tensor, gallery: Tensor, both: bool, winners_type: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """The best cosines and where they lie, [Q, S, G] each, and, both ways, [G, S, Q]."""
    queries, galleries, locations = len(query), len(gallery), query.shape[1]
    shapes = [(queries, locations, galleries), (galleries, locations, queries)][: 1 + both]
    best = [query.new_empty(shape) for shape in shapes]
    winners = [torch.empty(shape, dtype=winners_type, device=query.device) for shape in shapes]
    for rows, columns in _tiles(queries, galleries, 4 * locations**2, query.device):
        product = query[rows].flatten(0, 1) @ gallery[columns].flatten(0, 1).T
        table = product.reshape(-1, locations, columns.stop - columns.start, locations)
        found = table.max(dim=3)
        best[0][rows, :, columns], winners[0][rows, :, columns] = found.values, found.indices
        if both:
            found = table.permute(2, 3, 0, 1).contiguous().max(dim=3)  # a copy is quicker than max across rows
            best[1][columns, :, rows], winners[1][columns, :, rows] = found.values, found.indices
    return list(zip(best, winners, strict=True))


def _of_own(gradient: Tensor, other: Tensor, winners: Tensor) -> Tensor:
    """What each location that chose gets, [N, S, C]: the sum of its partners, one in each of M other images.

    Args:
        gradient: [N, S, M].
        other: [M, S, C].
        winners: [N, S, M].
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


def _of_other(gradient: Tensor, own: Tensor, winners: Tensor) -> Tensor:
    """What each location that was chosen gets, [M, S, C]: the sum of those that chose it.

    Sorted by what they chose, its choosers stand together: no two threads write to one place, as they would in a
    scatter, so the sum has one order.

    Args:
        gradient: [N, S, M].
        own: [N, S, C], the maps that chose.
        winners: [N, S, M].
    """
    images, locations, others = winners.shape
    vectors = own.reshape(images * locations, -1)
    places = torch.arange(locations, dtype=winners.dtype, device=own.device)
    sums = []
    for part, weights in zip(
        winners.flatten(0, 1).split(BLOCK, dim=1), gradient.flatten(0, 1).split(BLOCK, dim=1), strict=True
    ):
        chosen, choosers = part.T.contiguous().sort(dim=1, stable=True)
        first = torch.arange(len(chosen), device=own.device)[:, None] * len(vectors)
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
    """Pairs of images, so many at a time as fit into a tile."""
    pairs = max(1, (CPU_TILE_BYTES if device.type == "cpu" else GPU_TILE_BYTES) // pair_bytes)
    width = min(pairs, others)
    height = max(1, pairs // max(width, 1))
    return [
        (slice(row, min(row + height, images)), slice(column, min(column + width, others)))
        for row in range(0, images, height)
        for column in range(0, others, width)
    ]


def _index_type(locations: int) -> torch.dtype:
    """The smallest type that counts so many locations."""
    return torch.uint8 if locations <= 256 else torch.int16 if locations <= 2**15 else torch.int32
