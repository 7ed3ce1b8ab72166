"""Find each location's best partner in every other image on a GPU, and carry gradients back, by Triton kernels.

N own images, M others, S locations a map, C channels. No table of cosines is written: what is kept is the best cosine
and, in a byte or two, where it lies. Sums have one order, so a run repeats bit for bit on one device.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

ROWS = 64  # locations of an own image at a time
COLUMNS = 64  # locations of another image at a time
GATHERED = 16  # locations whose partners are summed by one program: few, so that many programs wait for memory
SCATTERED = 32  # choosers at a time
SHARES = 4  # of the own images, each summed by programs of its own: enough of them to fill a GPU
OTHERS = 8  # other images that one program of `find_best` goes through
SHARED_BYTES = 1024  # of a channel, at most: those of ROWS and COLUMNS locations, each float32 in two parts


def fits(maps: Tensor) -> bool:
    """Tell whether the shared memory of the maps' GPU holds what the kernels keep of maps [N, S, C] there."""
    properties: Any = torch.cuda.get_device_properties(maps.device)
    return SHARED_BYTES * _filled(maps.shape[2]) <= properties.shared_memory_per_block_optin


def find(query: Tensor, gallery: Tensor, both: bool, winners_type: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Find the best cosine of each query location in each gallery image and where it lies: the first of equal ones.

    Products of float32 are summed from three of TF32's, which keeps float32's precision; autocast halves it.

    Args:
        query: [Q, S, C].
        gallery: [G, S, C].
        both: find the best of each gallery location in each query image, too.
        winners_type: of the indices.

    Returns:
        Cosines of the query's type and indices, [Q, S, G] each; both ways also [G, S, Q] each.
    """
    if torch.is_autocast_enabled("cuda"):
        half = torch.get_autocast_dtype("cuda")
        sides = [(query.to(half), gallery.to(half)), (gallery.to(half), query.to(half))]
    else:
        sides = [(query, gallery), (gallery, query)]
    found = [_find_one_way(own, other, winners_type) for own, other in sides[: 1 + both]]
    return [(best.to(query.dtype), winners) for best, winners in found]


def _find_one_way(own: Tensor, other: Tensor, winners_type: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and indices [N, S, M], which lie in memory as [N, M, S]."""
    images, locations, _ = own.shape
    others = len(other)
    best = torch.empty(images, others, locations, device=own.device)
    winners = torch.empty(images, others, locations, dtype=winners_type, device=own.device)
    own, other = (_fill_channels(maps) for maps in (own, other))
    with torch.cuda.device_of(own):  # Triton launches on the current device
        find_best[(images * triton.cdiv(locations, ROWS), triton.cdiv(others, OTHERS))](
            own,
            other,
            best,
            winners,
            others,
            LOCATIONS=locations,
            CHANNELS=own.shape[2],
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            OTHERS=OTHERS,
            num_stages=2 if own.dtype.itemsize == 2 else 1,  # of float32 shared memory holds no more
        )
    return best.transpose(1, 2), winners.transpose(1, 2)


def of_own(gradient: Tensor, other: Tensor, winners: Tensor) -> Tensor:
    """Sum, for each location that chose, its partners' vectors times its gradients: [N, S, C].

    Args:
        gradient: [N, S, M].
        other: [M, S, C].
        winners: [N, S, M].
    """
    images, locations, others = winners.shape
    filled = _fill_channels(other.float())
    sums = torch.empty(images, locations, filled.shape[2], device=other.device)
    with torch.cuda.device_of(winners):  # Triton launches on the current device
        gather_rows[(images, triton.cdiv(locations, GATHERED))](
            gradient.transpose(1, 2).float().contiguous(),
            filled,
            winners.transpose(1, 2).contiguous(),
            sums,
            others,
            LOCATIONS=locations,
            CHANNELS=filled.shape[2],
            ROWS=GATHERED,
        )
    return sums[..., : other.shape[2]].to(other.dtype)


def of_other(gradient: Tensor, own: Tensor, winners: Tensor) -> Tensor:
    """Sum, for each location that was chosen, its choosers' vectors times their gradients: [M, S, C].

    The scatter is a product with a matrix of zeros and ones, so that no two programs add to one place.

    Args:
        gradient: [N, S, M].
        own: [N, S, C], the maps that chose.
        winners: [N, S, M].
    """
    images, locations, others = winners.shape
    filled = _fill_channels(own.float())
    sums = torch.empty(SHARES, others, locations, filled.shape[2], device=own.device)
    scale = torch.exp2(-gradient.abs().amax().float().clamp(min=torch.finfo(torch.float32).tiny).log2().ceil())
    with torch.cuda.device_of(winners):  # Triton launches on the current device
        scatter_rows[(others, triton.cdiv(locations, ROWS), SHARES)](
            gradient.transpose(1, 2).float().contiguous(),
            filled,
            winners.transpose(1, 2).contiguous(),
            scale,
            sums,
            images,
            LOCATIONS=locations,
            CHANNELS=filled.shape[2],
            ROWS=ROWS,
            COLUMNS=SCATTERED,
            num_stages=1,
            num_warps=8,
        )
    return sums.sum(dim=0)[..., : own.shape[2]].to(own.dtype)


@triton.jit
def find_best(
    own: tl.tensor,
    other: tl.tensor,
    best: tl.tensor,
    winners: tl.tensor,
    others: tl.tensor,
    LOCATIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OTHERS: tl.constexpr,
) -> None:
    """Match ROWS locations of one own image, which stay in shared memory, with OTHERS other images."""
    TILES: tl.constexpr = (LOCATIONS + ROWS - 1) // ROWS
    image = (tl.program_id(0) // TILES).to(tl.int64)
    row = tl.program_id(0) % TILES * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    channel = tl.arange(0, CHANNELS)
    first = tl.program_id(1) * OTHERS
    rows = tl.load(
        own + (image * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :], (row < LOCATIONS)[:, None], other=0.0
    )
    for partner in range(first, tl.minimum(first + OTHERS, others)):
        highest = tl.full((ROWS,), float("-inf"), tl.float32)
        place = tl.zeros((ROWS,), tl.int32)
        start = other + partner * (LOCATIONS * CHANNELS)
        for begin in tl.static_range(0, LOCATIONS, COLUMNS):
            inside = begin + column < LOCATIONS
            columns = tl.load(
                start + (begin + column)[:, None] * CHANNELS + channel[None, :], inside[:, None], other=0.0
            )
            cosines = tl.dot(rows, tl.trans(columns), input_precision="tf32x3")
            cosines = tl.where(inside[None, :], cosines, float("-inf"))
            value, index = tl.max(cosines, 1, return_indices=True)
            higher = value > highest
            highest = tl.where(higher, value, highest)
            place = tl.where(higher, begin + index, place)
        written = (image * others + partner) * LOCATIONS + row
        tl.store(best + written, highest, row < LOCATIONS)
        tl.store(winners + written, place.to(winners.dtype.element_ty), row < LOCATIONS)


@triton.jit
def gather_rows(
    gradient: tl.tensor,
    other: tl.tensor,
    winners: tl.tensor,
    sums: tl.tensor,
    others: tl.tensor,
    LOCATIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Sum what ROWS locations of one own image chose, over all other images in their order."""
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = row < LOCATIONS
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for partner in range(others):
        at = (image * others + partner) * LOCATIONS + row
        place = tl.load(winners + at, inside, other=0).to(tl.int32)
        weight = tl.load(gradient + at, inside, other=0.0)
        vectors = tl.load(other + (partner * LOCATIONS + place)[:, None] * CHANNELS + channel[None, :])
        total += weight[:, None] * vectors
    tl.store(sums + (image * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :], total, inside[:, None])


@triton.jit
def scatter_rows(
    gradient: tl.tensor,
    own: tl.tensor,
    winners: tl.tensor,
    scale: tl.tensor,
    sums: tl.tensor,
    images: tl.tensor,
    LOCATIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum what chose ROWS locations of one other image, over some own images in their order.

    Tensor cores multiply zeros and ones by vectors in two parts of float16, 22 bits together. `scale` brings the
    largest gradient near 1, and the lesser part counts LESSER times, so that neither leaves float16's range.
    """
    LESSER: tl.constexpr = 2048.0
    TILES: tl.constexpr = (LOCATIONS + COLUMNS - 1) // COLUMNS
    partner = tl.program_id(0).to(tl.int64)
    others = tl.num_programs(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    factor = tl.load(scale)
    greater_sum = tl.zeros((ROWS, CHANNELS), tl.float32)
    lesser_sum = tl.zeros((ROWS, CHANNELS), tl.float32)
    steps = tl.cdiv(images * TILES, tl.num_programs(2))
    first = tl.program_id(2) * steps
    for step in range(first, tl.minimum(first + steps, images * TILES)):
        column = step % TILES * COLUMNS + tl.arange(0, COLUMNS)
        inside = column < LOCATIONS
        at = (step // TILES * others + partner) * LOCATIONS + column
        place = tl.load(winners + at, inside, other=0).to(tl.int32)
        weight = tl.load(gradient + at, inside, other=0.0) * factor
        vector = (step // TILES * LOCATIONS + column)[:, None] * CHANNELS + channel[None, :]
        wanted = weight[:, None] * tl.load(own + vector, inside[:, None], other=0.0)
        greater = wanted.to(tl.float16)
        lesser = ((wanted - greater.to(tl.float32)) * LESSER).to(tl.float16)
        chose = (row[:, None] == place[None, :]).to(tl.float16)
        greater_sum = tl.dot(chose, greater, greater_sum)
        lesser_sum = tl.dot(chose, lesser, lesser_sum)
    total = (greater_sum + lesser_sum / LESSER) / factor
    written = ((tl.program_id(2) * others + partner) * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :]
    tl.store(sums + written, total, (row < LOCATIONS)[:, None])


def _fill_channels(maps: Tensor) -> Tensor:
    """Zeros after the last channel, up to a power of two of 16 or more."""
    missing = _filled(maps.shape[2]) - maps.shape[2]
    return (F.pad(maps, (0, missing)) if missing else maps).contiguous()


def _filled(channels: int) -> int:
    return max(16, triton.next_power_of_2(channels))
