"""Find each location's best partner in every other image on a GPU, and carry gradients back, by Triton kernels.

N choosing images, whose locations each choose a partner, M other images, S locations a map, C channels. No table of
cosines is written, only the best cosine and, in a byte or two, its index. The order of sums is fixed, so a run repeats
bit for bit on one device.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

ROWS = 64  # locations of a choosing image that a program holds
COLUMNS = 64  # locations of another image that a program reads at a time
GATHERED = 16  # locations whose partners one program sums: few, so that other programs run while one waits for memory
SCATTERED = 32  # choosing locations that a program reads at a time
SHARES = 4  # parts of the choosing images, summed by separate programs: enough of them to fill a GPU
OTHERS = 8  # other images that one program of `find_best` matches
SHARED_BYTES = 1024  # shared memory for a channel: ROWS and COLUMNS locations, each float32 in two parts


def fits(maps: Tensor) -> bool:
    """Return whether the shared memory of the maps' GPU suffices for maps [N, S, C]."""
    properties: Any = torch.cuda.get_device_properties(maps.device)
    return bool(SHARED_BYTES * _padded(maps.shape[2]) <= properties.shared_memory_per_block_optin)


def find(query: Tensor, gallery: Tensor, both: bool, winners_type: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Find the best cosine of each query location in each gallery image, and its index: the first of equal ones.

    A float32 product is the sum of three TF32 products, which keeps float32's precision. Autocast halves it.

    Args:
        query: query maps, [Q, S, C].
        gallery: gallery maps, [G, S, C].
        both: whether to find the best of each gallery location in each query image, too.
        winners_type: type of the indices.

    Returns:
        Cosines of the query's type and indices, [Q, S, G] each; in both directions also [G, S, Q] each.
    """
    if torch.is_autocast_enabled("cuda"):
        half = torch.get_autocast_dtype("cuda")
        sides = [(query.to(half), gallery.to(half)), (gallery.to(half), query.to(half))]
    else:
        sides = [(query, gallery), (gallery, query)]
    directions = [_find_one_way(choosing, other, winners_type) for choosing, other in sides[: 1 + both]]
    return [(best.to(query.dtype), winners) for best, winners in directions]


def _find_one_way(choosing: Tensor, other: Tensor, winners_type: torch.dtype) -> tuple[Tensor, Tensor]:
    """Find cosines and indices [N, S, M], which are stored as [N, M, S]."""
    images, locations, _ = choosing.shape
    others = len(other)
    best = torch.empty(images, others, locations, device=choosing.device)
    winners = torch.empty(images, others, locations, dtype=winners_type, device=choosing.device)
    choosing, other = (_pad_channels(maps) for maps in (choosing, other))
    with torch.cuda.device_of(choosing):  # Triton launches on the current device
        find_best[(images * triton.cdiv(locations, ROWS), triton.cdiv(others, OTHERS))](
            choosing,
            other,
            best,
            winners,
            others,
            LOCATIONS=locations,
            CHANNELS=choosing.shape[2],
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            OTHERS=OTHERS,
            num_stages=2 if choosing.dtype.itemsize == 2 else 1,  # shared memory holds only one stage of float32
        )
    return best.transpose(1, 2), winners.transpose(1, 2)


def gather(gradient: Tensor, other: Tensor, winners: Tensor) -> Tensor:
    """Compute the gradient [N, S, C] of the choosing locations: the weighted sum of their partners.

    Args:
        gradient: gradient of the best cosines, [N, S, M].
        other: maps of the other images, [M, S, C].
        winners: index of each best partner, [N, S, M].
    """
    images, locations, others = winners.shape
    padded = _pad_channels(other.float())
    sums = torch.empty(images, locations, padded.shape[2], device=other.device)
    with torch.cuda.device_of(winners):  # Triton launches on the current device
        gather_rows[(images, triton.cdiv(locations, GATHERED))](
            gradient.transpose(1, 2).float().contiguous(),
            padded,
            winners.transpose(1, 2).contiguous(),
            sums,
            others,
            LOCATIONS=locations,
            CHANNELS=padded.shape[2],
            ROWS=GATHERED,
        )
    return sums[..., : other.shape[2]].to(other.dtype)


def scatter(gradient: Tensor, choosing: Tensor, winners: Tensor) -> Tensor:
    """Compute the gradient [M, S, C] of the chosen locations: the weighted sum of the locations that chose them.

    The scatter is a product with a matrix of zeros and ones, so that no two programs add to one location.

    Args:
        gradient: gradient of the best cosines, [N, S, M].
        choosing: maps of the choosing images, [N, S, C].
        winners: index of each best partner, [N, S, M].
    """
    images, locations, others = winners.shape
    padded = _pad_channels(choosing.float())
    sums = torch.empty(SHARES, others, locations, padded.shape[2], device=choosing.device)
    scale = torch.exp2(-gradient.abs().amax().float().clamp(min=torch.finfo(torch.float32).tiny).log2().ceil())
    with torch.cuda.device_of(winners):  # Triton launches on the current device
        scatter_rows[(others, triton.cdiv(locations, ROWS), SHARES)](
            gradient.transpose(1, 2).float().contiguous(),
            padded,
            winners.transpose(1, 2).contiguous(),
            scale,
            sums,
            images,
            LOCATIONS=locations,
            CHANNELS=padded.shape[2],
            ROWS=ROWS,
            COLUMNS=SCATTERED,
            num_stages=1,
            num_warps=8,
        )
    return sums.sum(dim=0)[..., : choosing.shape[2]].to(choosing.dtype)


@triton.jit  # type: ignore[untyped-decorator]
def find_best(
    choosing: tl.tensor,
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
    """Match ROWS locations of one choosing image, which stay in shared memory, with OTHERS other images."""
    TILES: tl.constexpr = (LOCATIONS + ROWS - 1) // ROWS
    image = (tl.program_id(0) // TILES).to(tl.int64)
    row = tl.program_id(0) % TILES * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    channel = tl.arange(0, CHANNELS)
    first = tl.program_id(1) * OTHERS
    rows = tl.load(
        choosing + (image * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :],
        (row < LOCATIONS)[:, None],
        other=0.0,
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


@triton.jit  # type: ignore[untyped-decorator]
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
    """Sum the partners of ROWS locations of one choosing image over all other images in order."""
    image = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = row < LOCATIONS
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    for partner in range(others):
        index = (image * others + partner) * LOCATIONS + row
        place = tl.load(winners + index, inside, other=0).to(tl.int32)
        weight = tl.load(gradient + index, inside, other=0.0)
        vectors = tl.load(other + (partner * LOCATIONS + place)[:, None] * CHANNELS + channel[None, :])
        total += weight[:, None] * vectors
    tl.store(sums + (image * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :], total, inside[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def scatter_rows(
    gradient: tl.tensor,
    choosing: tl.tensor,
    winners: tl.tensor,
    scale: tl.tensor,
    sums: tl.tensor,
    images: tl.tensor,
    LOCATIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Sum the locations that chose ROWS locations of one other image, over some choosing images in order.

    Tensor cores multiply zeros and ones by vectors in two parts of float16, 22 bits together. `scale` brings the
    largest gradient near 1, and the lower part is multiplied by LOWER, so that both stay in float16's range.
    """
    LOWER: tl.constexpr = 2048.0
    TILES: tl.constexpr = (LOCATIONS + COLUMNS - 1) // COLUMNS
    partner = tl.program_id(0).to(tl.int64)
    others = tl.num_programs(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    factor = tl.load(scale)
    upper_sum = tl.zeros((ROWS, CHANNELS), tl.float32)
    lower_sum = tl.zeros((ROWS, CHANNELS), tl.float32)
    steps = tl.cdiv(images * TILES, tl.num_programs(2))
    first = tl.program_id(2) * steps
    for step in range(first, tl.minimum(first + steps, images * TILES)):
        column = step % TILES * COLUMNS + tl.arange(0, COLUMNS)
        inside = column < LOCATIONS
        index = (step // TILES * others + partner) * LOCATIONS + column
        place = tl.load(winners + index, inside, other=0).to(tl.int32)
        weight = tl.load(gradient + index, inside, other=0.0) * factor
        vector = (step // TILES * LOCATIONS + column)[:, None] * CHANNELS + channel[None, :]
        weighted = weight[:, None] * tl.load(choosing + vector, inside[:, None], other=0.0)
        upper = weighted.to(tl.float16)
        lower = ((weighted - upper.to(tl.float32)) * LOWER).to(tl.float16)
        chose = (row[:, None] == place[None, :]).to(tl.float16)
        upper_sum = tl.dot(chose, upper, upper_sum)
        lower_sum = tl.dot(chose, lower, lower_sum)
    total = (upper_sum + lower_sum / LOWER) / factor
    written = ((tl.program_id(2) * others + partner) * LOCATIONS + row)[:, None] * CHANNELS + channel[None, :]
    tl.store(sums + written, total, (row < LOCATIONS)[:, None])


def _pad_channels(maps: Tensor) -> Tensor:
    """Append zero channels up to a power of two of at least 16."""
    missing = _padded(maps.shape[2]) - maps.shape[2]
    return (F.pad(maps, (0, missing)) if missing else maps).contiguous()


def _padded(channels: int) -> int:
    return max(16, int(triton.next_power_of_2(channels)))
