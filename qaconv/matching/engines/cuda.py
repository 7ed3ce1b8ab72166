"""Match blocks of feature maps on a CUDA device by a Triton kernel that writes no table of cosines.

Q queries, G gallery images, S locations, C channels; P and D are S and C filled up to what tensor cores multiply.
"""

from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from qaconv.matching.engines.blocks import DeviceBlock, move_block
from qaconv.runtime.head import Head

ROWS = 64  # query locations multiplied at a time: what one instruction of Hopper's tensor cores takes
MOST_LOCATIONS = 256  # of a gallery image: registers hold the maxima of no more
SCRATCH_BYTES = 2304  # of shared memory, for sums across threads
CONFIGS = [  # 4 warps where their registers hold both maxima, 8 where they do not
    triton.Config({"QUERIES": 64, "STAGES": 2}, num_warps=warps) for warps in (4, 8)
]


def fits(locations: int, channels: int, device: torch.device) -> bool:
    """Tell whether registers and the shared memory of a GPU hold a gallery image, and a tile of a query's rows."""
    if not 2 <= locations <= MOST_LOCATIONS:
        return False
    properties: Any = torch.cuda.get_device_properties(device)
    return bool(shared_bytes(locations, channels) <= properties.shared_memory_per_block_optin)


def shared_bytes(locations: int, channels: int) -> int:
    """Shared memory that the kernel takes: a gallery image, a tile of rows, and the next one, which is read ahead."""
    return 2 * _at_least_16(channels) * (sum(_column_pieces(locations)) + 2 * ROWS) + SCRATCH_BYTES


class TritonMatcher:
    """Match on a CUDA device: products of float16 summed in float32; codes of 8 bits are multiplied as float16 too.

    Maps are rounded to float16, so logits differ from the exact engine's by about a thousandth of their spread at most.

    Args:
        head: the folded head, of maps that `fits`.
        device: a CUDA device.
    """

    def __init__(self, head: Head, device: torch.device) -> None:
        self._device = device
        padding = -len(head.query) % ROWS
        self._query_weights = F.pad(torch.from_numpy(head.query), (0, padding)).to(device)
        self._gallery_weights = F.pad(torch.from_numpy(head.gallery), (0, padding)).to(device)
        self._bias = torch.tensor(head.bias, dtype=torch.float32, device=device)
        self._wide, self._narrow = _column_pieces(len(head.query))

    def prepare(self, images: DeviceBlock) -> Tensor:
        """Move a block of queries or gallery images to the device as float16 [N, P, D]. A moved block stays as it is.

        Locations are filled up with copies of the last one, which change no maximum and have no weight; channels with
        zeros.
        """
        maps = move_block(images, self._device, torch.float16)
        locations, channels = maps.shape[1:]
        missing, narrow = len(self._query_weights) - locations, _at_least_16(channels) - channels
        if missing:
            maps = torch.cat([maps, maps[:, -1:].expand(-1, missing, -1)], dim=1)
        return (F.pad(maps, (0, narrow)) if narrow else maps).contiguous()

    def table(self, queries: Tensor, gallery: DeviceBlock) -> NDArray[np.float32]:
        """Return logits [Q, G] of all pairs."""
        return self.table_on_device(queries, gallery).cpu().numpy()

    def table_on_device(self, queries: Tensor, gallery: DeviceBlock) -> Tensor:
        """Return logits [Q, G] of all pairs, on the device."""
        maps = self.prepare(gallery)
        logits = torch.empty(len(queries), len(maps), device=self._device)
        self._match(queries, maps, logits, None, None)
        return logits

    def pairs(
        self,
        queries: Tensor,
        gallery: DeviceBlock,
        query_index: NDArray[np.int64],
        gallery_index: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return logits [n] of n pairs, given as indices [n] into both blocks."""
        logits = torch.empty(len(query_index), device=self._device)
        rows = torch.from_numpy(query_index).to(self._device)
        columns = torch.from_numpy(gallery_index).to(self._device)
        self._match(queries, self.prepare(gallery), logits, rows, columns)
        return logits.cpu().numpy()

    def _match(
        self, queries: Tensor, gallery: Tensor, logits: Tensor, rows: Tensor | None, columns: Tensor | None
    ) -> None:
        if not logits.numel():
            return
        indexed = rows is not None
        blocks = 1 if indexed else len(queries)

        def grid(chosen: dict[str, Any]) -> tuple[int]:
            return (len(logits) if indexed else len(gallery) * triton.cdiv(blocks, chosen["QUERIES"]),)

        with torch.cuda.device_of(queries):  # Triton launches on the current device
            match_images[grid](
                queries,
                gallery,
                self._query_weights,
                self._gallery_weights,
                self._bias,
                logits if rows is None else rows,
                logits if columns is None else columns,
                logits,
                len(queries),
                len(gallery),
                INDEXED=indexed,
                LOCATIONS=queries.shape[1],
                CHANNELS=queries.shape[2],
                WIDE=self._wide,
                NARROW=self._narrow,
                ROWS=ROWS,
            )


@triton.autotune(  # type: ignore[untyped-decorator]
    CONFIGS[:1] if triton.knobs.runtime.interpret else CONFIGS,
    key=["INDEXED", "LOCATIONS", "CHANNELS", "WIDE", "NARROW"],
)
@triton.jit  # type: ignore[untyped-decorator]
def match_images(
    queries: tl.tensor,
    gallery: tl.tensor,
    query_weights: tl.tensor,
    gallery_weights: tl.tensor,
    bias: tl.tensor,
    query_index: tl.tensor,
    gallery_index: tl.tensor,
    logits: tl.tensor,
    query_count: tl.tensor,
    gallery_count: tl.tensor,
    INDEXED: tl.constexpr,
    LOCATIONS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW: tl.constexpr,
    ROWS: tl.constexpr,
    QUERIES: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Match one gallery image, which stays in shared memory, with QUERIES queries, whose rows stream past it.

    Both maxima stay in registers: of a query's rows over all columns, and, element by element over the tiles of rows,
    of the columns; those are reduced across threads once a query. Columns come in two pieces, as a tile's side must be
    a power of two: 192 is 128 and 64, so no product is wasted.
    """
    program = tl.program_id(0)
    if INDEXED:
        image = tl.load(gallery_index + program)
        first = tl.load(query_index + program)
        last = first + 1
    else:
        image = (program % gallery_count).to(tl.int64)
        first = (program // gallery_count * QUERIES).to(tl.int64)
        last = tl.minimum(first + QUERIES, query_count)
    channel = tl.arange(0, CHANNELS)[None, :]
    columns = gallery + image * (LOCATIONS * CHANNELS)
    wide = tl.load(columns + tl.arange(0, WIDE)[:, None] * CHANNELS + channel)
    narrow = tl.load(columns + (WIDE + tl.arange(0, NARROW))[:, None] * CHANNELS + channel)
    row = tl.arange(0, ROWS)
    for query in tl.range(first, last, flatten=True):
        best_wide = tl.full((ROWS, WIDE), float("-inf"), tl.float32)
        best_narrow = tl.full((ROWS, NARROW), float("-inf"), tl.float32)
        of_rows = tl.zeros((ROWS,), tl.float32)
        for start in tl.range(0, LOCATIONS, ROWS, num_stages=STAGES):
            rows = tl.load(queries + (query * LOCATIONS + start) * CHANNELS + row[:, None] * CHANNELS + channel)
            on_wide = tl.dot(rows, tl.trans(wide))
            on_narrow = tl.dot(rows, tl.trans(narrow))
            best_wide = tl.maximum(best_wide, on_wide)
            best_narrow = tl.maximum(best_narrow, on_narrow)
            best_row = tl.maximum(tl.max(on_wide, 1), tl.max(on_narrow, 1))
            of_rows += tl.load(query_weights + start + row) * best_row
        of_wide = tl.load(gallery_weights + tl.arange(0, WIDE)) * tl.max(best_wide, 0)
        of_narrow = tl.load(gallery_weights + WIDE + tl.arange(0, NARROW)) * tl.max(best_narrow, 0)
        logit = tl.load(bias) + tl.sum(of_rows) + tl.sum(of_wide) + tl.sum(of_narrow)
        tl.store(logits + (program if INDEXED else query * gallery_count + image), logit)


def _column_pieces(locations: int) -> tuple[int, int]:
    """Two powers of two, 16 or more, that hold so many columns together, as few as can be."""
    wide = min(128, max(16, triton.next_power_of_2(locations) // 2))
    return wide, max(16, triton.next_power_of_2(max(1, locations - wide)))


def _at_least_16(channels: int) -> int:
    return int(max(16, triton.next_power_of_2(channels)))
