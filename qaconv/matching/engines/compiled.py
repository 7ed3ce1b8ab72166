"""Blocks of feature maps go in; logits come out of a C kernel, which is built when it is first needed.

Q queries, G gallery images, S locations, C channels, P panels of some neighbouring locations of a query.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from qaconv.matching.quantise import Block, Codes, dequantise
from qaconv.models.head import FoldedHead
from qaconv.runtime.cbuild import load_library

SOURCE = Path(__file__).with_name("kernel.c")
VECTOR_BYTES = 64  # of the widest vectors, which scratch memory is aligned to


class Packed(NamedTuple):
    """Queries as kernel.c reads them: panels of neighbouring locations, filled up with copies of the last one."""

    maps: Tensor  # [Q, P, steps, lanes] of 32 bits: a float32, two bfloat16 or four int8
    scales: Tensor | None  # of int8: float32 [Q, P * lanes]
    offsets: Tensor | None  # of int8 without AMX: int32 [Q, P * lanes]


class CompiledMatcher:
    """Matches on the CPU with as many threads as torch has; codes are multiplied as integers where the CPU can.

    Args:
        folded: the head.
        kernel: as `load_kernel` gives it.
        amx: multiply by tiles where the CPU can: floats in two parts of 8 bits, which moves a logit by about 1e-6.
    """

    def __init__(self, folded: FoldedHead, kernel: ctypes.CDLL, *, amx: bool = True) -> None:
        self._kernel = kernel
        self._amx = amx and bool(kernel.has_amx())
        self._lanes: int = kernel.lanes()
        # Maps of fewer locations are filled up with copies of the last one, which change no maximum and weigh nothing.
        self._locations = max(len(folded.query), kernel.least_locations(self._amx))
        self._panels = -(-self._locations // self._lanes)
        self._gallery_weights, self._query_weights = (
            _pad(weights, self._panels * self._lanes) for weights in (folded.gallery, folded.query)
        )
        self._bias = folded.bias.item()

    def prepare(self, queries: Block) -> Packed:
        """Packs a block of queries for `table` and `pairs`."""
        block = self._fitted(queries)
        if not isinstance(block, Codes):
            return Packed(self._pack(block), None, None)
        packed, width = self._pack(block.codes), self._panels * self._lanes
        scales = _repeat_last(block.scales.float(), width)
        if self._amx:
            return Packed(packed, scales, None)
        return Packed(packed, scales, _repeat_last(-128 * block.codes.sum(dim=2, dtype=torch.int32), width))

    def table(self, queries: Packed, gallery: Block) -> Tensor:
        """Logits [Q, G] of all pairs."""
        block = self._fitted(gallery)
        count = len(block.codes if isinstance(block, Codes) else block)
        logits = torch.empty(len(queries.maps), count)
        self._match(self._kernel.match_table, queries, block, count, logits)
        return logits

    def pairs(self, queries: Packed, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Logits [n] of n pairs, given as int64 [n] into both blocks."""
        logits = torch.empty(len(query_index))
        match, indices = self._kernel.match_pairs, map(_address, (query_index, gallery_index))
        self._match(match, queries, self._fitted(gallery), len(query_index), logits, *indices)
        return logits

    def _match(
        self,
        match: Callable[..., None],
        queries: Packed,
        gallery: Block,
        count: int,
        logits: Tensor,
        *indices: ctypes.c_void_p,
    ) -> None:
        """Calls `match` for shares of 0..count, in threads."""
        maps, scales = gallery if isinstance(gallery, Codes) else (gallery, None)
        scales = None if scales is None else scales.float()
        steps = queries.maps.shape[2]
        block = _Block(
            _Side(*map(_address, (maps, self._gallery_weights, scales, None))),
            _Side(*map(_address, (queries.maps, self._query_weights, queries.scales, queries.offsets))),
            len(queries.maps),
            len(maps),
            scales is not None,
            self._amx,
            self._locations,
            maps.shape[2] * maps.element_size() // 4,
            steps,
            self._bias,
        )
        vectors = 4 * self._kernel.side() + self._locations + 2 * self._panels
        scratch_bytes = vectors * VECTOR_BYTES + 4 * self._kernel.kept() * self._locations * steps

        def run(first: ctypes.c_int64, last: ctypes.c_int64, scratch: ctypes.c_void_p) -> None:
            match(ctypes.byref(block), first, last, scratch, _address(logits), *indices)

        _in_threads(run, count, scratch_bytes)

    def _pack(self, maps: Tensor) -> Tensor:
        """Floats or codes [Q, S, C] to [Q, P, steps, lanes]; for AMX floats are split, and steps fill whole tiles."""
        words, tile = maps.shape[2] * maps.element_size() // 4, self._kernel.side()
        splits, steps = self._amx and maps.dtype == torch.float32, words
        if self._amx:
            steps = sum(-(-part // tile) * tile for part in ((words + 1) // 2, words)[not splits :])
        packed = torch.empty(len(maps), self._panels, steps, self._lanes)
        sizes = maps.shape[1], words, steps, splits

        def run(first: ctypes.c_int64, last: ctypes.c_int64, scratch: ctypes.c_void_p) -> None:
            self._kernel.pack(_address(maps), first, last, *sizes, _address(packed), scratch)

        _in_threads(run, len(maps), 4 * steps)
        return packed

    def _fitted(self, block: Block) -> Block:
        """The block as the kernel can read it: enough locations, and whole words of four codes."""
        if isinstance(block, Codes) and self._kernel.multiplies_int8():
            codes, scales = (_repeat_last(part, self._locations) for part in block)
            return Codes(_fill(codes, 4).contiguous(), scales.contiguous())
        maps = dequantise(block) if isinstance(block, Codes) else block
        return _repeat_last(maps, self._locations).contiguous()


def load_kernel() -> ctypes.CDLL | None:
    """kernel.c as a library for this CPU; None, and a line in the log, if it cannot be built."""
    return load_library(SOURCE, "matching takes torch's tiles, which are slower")


class _Side(ctypes.Structure):
    """kernel.c's `side_of`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("maps", "weights", "scales", "offsets")]


class _Block(ctypes.Structure):
    """kernel.c's `block`."""

    _fields_ = [
        *((name, _Side) for name in ("gallery", "queries")),
        *((name, ctypes.c_int64) for name in ("query_count", "gallery_count")),
        *((name, ctypes.c_int32) for name in ("int8", "amx", "locations", "words", "steps")),
        ("bias", ctypes.c_float),
    ]


def _in_threads(
    call: Callable[[ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p], None], count: int, scratch_bytes: int
) -> None:
    """Calls it for shares of 0..count, each time with the share's ends and so much memory of its own."""
    threads = torch.get_num_threads()
    share = max(1, -(-count // (4 * threads)))  # several a thread: none waits long for the slowest

    def run(first: int) -> None:
        scratch = torch.empty(scratch_bytes + VECTOR_BYTES, dtype=torch.uint8)
        aligned = -(-scratch.data_ptr() // VECTOR_BYTES) * VECTOR_BYTES
        call(ctypes.c_int64(first), ctypes.c_int64(min(first + share, count)), ctypes.c_void_p(aligned))

    list(_pool(threads).map(run, range(0, count, share)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay, as starting them would take longer than a small block; ctypes lets go of Python's lock."""
    return ThreadPoolExecutor(threads, thread_name_prefix="matching")


os.register_at_fork(after_in_child=_pool.cache_clear)


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pad(weights: Tensor, count: int) -> Tensor:
    return F.pad(weights, (0, count - len(weights))).contiguous()


def _fill(maps: Tensor, multiple: int) -> Tensor:
    """Zeros after the last channel, up to a multiple of so many; unchanged where it is one."""
    missing = -maps.shape[2] % multiple
    return F.pad(maps, (0, missing)) if missing else maps


def _repeat_last(locations: Tensor, count: int) -> Tensor:
    """[N, S, ...] to [N, count, ...] with copies of the last location; unchanged where it has as many."""
    missing = count - locations.shape[1]
    if not missing:
        return locations
    return torch.cat([locations, locations[:, -1:].expand(-1, missing, *locations.shape[2:])], dim=1)
