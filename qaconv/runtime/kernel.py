"""Match blocks of feature maps on the CPU by a C kernel, which is built when it is first needed.

Q queries, G gallery images, S locations, C channels, P panels of some neighbouring locations of a query.
"""

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.cbuild import load_library
from qaconv.runtime.head import Head
from qaconv.runtime.locations import widen
from qaconv.runtime.quantise import Block, Codes, dequantise
from qaconv.runtime.threads import share_out

SOURCE = Path(__file__).with_name("kernel.c")
VECTOR_BYTES = 64  # of the widest vectors, which scratch memory is aligned to
WIDENED_BYTES = 16 << 20  # of float16 maps that are widened to float32 at a time


class Packed(NamedTuple):
    """Queries as kernel.c reads them: panels of neighbouring locations, filled up with copies of the last one."""

    maps: NDArray[np.float32]  # [Q, P, steps, lanes] of 32 bits: a float32, two bfloat16 or four int8
    scales: NDArray[np.float32] | None  # of int8: [Q, P * lanes]
    offsets: NDArray[np.int32] | None  # of int8 without AMX: [Q, P * lanes]
    words: int  # of 32 bits of a location before it was packed


class KernelMatcher:
    """Match on the CPU by the compiled kernel; codes are multiplied as integers where the CPU can.

    Args:
        head: the folded head.
        kernel: the library that `load_kernel` returns.
        threads: number of threads of each call. Default: `default_threads()` at the time of the call.
        amx: multiply by tiles where the CPU can and maps fill one: floats in two parts of 8 bits, which moves a logit
            by about 1e-6.
    """

    def __init__(self, head: Head, kernel: ctypes.CDLL, *, threads: int | None = None, amx: bool = True) -> None:
        self._kernel = kernel
        self._threads = threads
        self._map_locations = len(head.query)
        # Smaller maps would be copied at each call to fill a tile, such as row averages, of all of a gallery.
        self._amx = amx and bool(kernel.has_amx()) and self._map_locations >= kernel.least_locations(True)
        self._lanes: int = kernel.lanes()
        # Maps of fewer locations are filled up with copies of the last one, which change no maximum and weigh nothing.
        self._locations = max(self._map_locations, kernel.least_locations(self._amx))
        self._panels = -(-self._locations // self._lanes)
        self._gallery_weights = _fill(head.gallery, self._panels * self._lanes)
        self._query_weights = _fill(head.query, self._panels * self._lanes)
        self._bias = float(head.bias)

    def prepare(self, queries: Block) -> Packed:
        """Pack a block of queries for `table` and `pairs`.

        Raises:
            ValueError: the maps have another number of locations than the head.
        """
        block = self._fit(queries)
        if not isinstance(block, Codes):
            return Packed(self._pack(block), None, None, _words(block))
        packed = self._pack(block.codes)
        words = _words(block.codes)
        width = self._panels * self._lanes
        scales = _aligned_copy(_repeat_last(block.scales.astype(np.float32), width))
        if self._amx:
            return Packed(packed, scales, None, words)
        offsets = np.int32(-128) * block.codes.sum(axis=2, dtype=np.int32)
        return Packed(packed, scales, _aligned_copy(_repeat_last(offsets, width)), words)

    def table(self, queries: Packed, gallery: Block) -> NDArray[np.float32]:
        """Return logits [Q, G] of all pairs.

        Raises:
            ValueError: queries and gallery are of different shapes or types.
        """
        if isinstance(gallery, Codes) or gallery.dtype == np.float32:
            block = self._fit(gallery)
            count = len(block.codes if isinstance(block, Codes) else block)
            logits = np.empty((len(queries.maps), count), dtype=np.float32)
            self._match(self._kernel.match_table, queries, block, count, logits)
            return logits
        logits = np.empty((len(queries.maps), len(gallery)), dtype=np.float32)
        at_once = max(1, WIDENED_BYTES // max(1, 4 * gallery[0].size)) if len(gallery) else 1
        for start in range(0, len(gallery), at_once):
            part = slice(start, start + at_once)
            logits[:, part] = self.table(queries, widen(gallery[part], self._threads))
        return logits

    def pairs(
        self, queries: Packed, gallery: Block, query_index: NDArray[np.int64], gallery_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [n] of n pairs, given as indices [n] into both blocks.

        Raises:
            ValueError: as of `table`, or an index is not in its block.
        """
        if not isinstance(gallery, Codes) and gallery.dtype != np.float32:
            images, gallery_index = np.unique(gallery_index, return_inverse=True)
            gallery = widen(gallery[images], self._threads)
        block = self._fit(gallery)
        logits = np.empty(len(query_index), dtype=np.float32)
        indices = [np.ascontiguousarray(index, dtype=np.int64) for index in (query_index, gallery_index)]
        counts = len(queries.maps), len(block.codes if isinstance(block, Codes) else block)
        for side, index, count in zip(("query", "gallery"), indices, counts, strict=True):
            if index.shape != logits.shape or (len(index) and not 0 <= index.min() <= index.max() < count):
                raise ValueError(f"{side}_index must be {len(logits)} indices in 0..{count - 1}")
        self._match(self._kernel.match_pairs, queries, block, len(logits), logits, *indices)
        return logits

    def _match(
        self,
        match: Callable[..., None],
        queries: Packed,
        gallery: Block,
        count: int,
        logits: NDArray[np.float32],
        *indices: NDArray[np.int64],
    ) -> None:
        """Call `match` for parts of 0..count, in threads, each with scratch memory."""
        maps, scales = gallery if isinstance(gallery, Codes) else (gallery, None)
        if (queries.words, queries.scales is None) != (_words(maps), scales is None):
            query_kind = _describe(queries.words, queries.scales is None)
            gallery_kind = _describe(_words(maps), scales is None)
            raise ValueError(f"queries and gallery must have the same channels, got {query_kind} and {gallery_kind}")
        scales = None if scales is None else scales.astype(np.float32, copy=False)
        steps = queries.maps.shape[2]
        block = _Block(
            _operand(maps, self._gallery_weights, scales, None),
            _operand(queries.maps, self._query_weights, queries.scales, queries.offsets),
            len(queries.maps),
            len(maps),
            scales is not None,
            self._amx,
            self._locations,
            queries.words,
            steps,
            self._bias,
        )
        vectors = 4 * self._kernel.side() + self._locations + 2 * self._panels
        scratch_bytes = vectors * VECTOR_BYTES + 4 * self._kernel.kept() * self._locations * steps
        outputs = [_address(logits), *map(_address, indices)]

        def run(first: int, last: int) -> None:
            scratch = _aligned_empty((scratch_bytes,), np.uint8)
            ends = ctypes.c_int64(first), ctypes.c_int64(last)
            match(ctypes.byref(block), *ends, _address(scratch), *outputs)

        share_out(run, count, self._threads)

    def _pack(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """Pack floats or codes [Q, S, C] as [Q, P, steps, lanes]; for AMX, split floats and fill whole tiles."""
        words = _words(maps)
        side = self._kernel.side()
        splits = self._amx and maps.dtype == np.float32
        steps = words
        if self._amx:
            steps = sum(-(-part // side) * side for part in ((words + 1) // 2, words)[not splits :])
        packed = _aligned_empty((len(maps), self._panels, steps, self._lanes), np.float32)
        sizes = maps.shape[1], words, steps, splits

        def run(first: int, last: int) -> None:
            scratch = _aligned_empty((4 * steps,), np.uint8)
            ends = ctypes.c_int64(first), ctypes.c_int64(last)
            self._kernel.pack(_address(maps), *ends, *sizes, _address(packed), _address(scratch))

        share_out(run, len(maps), self._threads)
        return packed

    def _fit(self, block: Block) -> Block:
        """Return the block as the kernel can read it: enough locations, and whole words of four codes."""
        shape = (block.codes if isinstance(block, Codes) else block).shape
        if len(shape) != 3 or shape[1] != self._map_locations:
            raise ValueError(f"maps must have shape [N, {self._map_locations}, C], got {list(shape)}")
        if isinstance(block, Codes) and block.scales.shape != shape[:2]:
            raise ValueError(f"scales must have shape {list(shape[:2])}, got {list(block.scales.shape)}")
        if isinstance(block, Codes) and self._kernel.multiplies_int8():
            codes, scales = (_repeat_last(part, self._locations) for part in block)
            missing = -codes.shape[2] % 4
            if missing:
                codes = np.pad(codes, ((0, 0), (0, 0), (0, missing)))
            return Codes(np.ascontiguousarray(codes), np.ascontiguousarray(scales))
        maps = dequantise(block, self._threads) if isinstance(block, Codes) else widen(block, self._threads)
        return np.ascontiguousarray(_repeat_last(maps, self._locations))


def load_kernel() -> ctypes.CDLL | None:
    """Load kernel.c as a library for this CPU; return None, and log one line, if it cannot be built."""
    return load_library(SOURCE, "matching takes numpy's products, which are slower")


class _Operand(ctypes.Structure):
    """kernel.c's `side_of`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("maps", "weights", "scales", "offsets")]


class _Block(ctypes.Structure):
    """kernel.c's `block`."""

    _fields_ = [
        *((name, _Operand) for name in ("gallery", "queries")),
        *((name, ctypes.c_int64) for name in ("query_count", "gallery_count")),
        *((name, ctypes.c_int32) for name in ("int8", "amx", "locations", "words", "steps")),
        ("bias", ctypes.c_float),
    ]


def _operand(*arrays: NDArray[Any] | None) -> _Operand:
    return _Operand(*map(_address, arrays))


def _words(maps: NDArray[Any]) -> int:
    """Return the number of 32-bit words of a location of floats or codes [N, S, C]."""
    words: int = maps.shape[2] * maps.itemsize // 4
    return words


def _describe(words: int, is_float: bool) -> str:
    return f"{words} floats" if is_float else f"{4 * words} codes"


def _aligned_empty(shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Allocate an array that begins at a multiple of VECTOR_BYTES: the kernel reads whole vectors of it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + VECTOR_BYTES, dtype=np.uint8)
    first = -memory.ctypes.data % VECTOR_BYTES
    return memory[first : first + size].view(dtype).reshape(shape)


def _aligned_copy(array: NDArray[Any]) -> NDArray[Any]:
    copy = _aligned_empty(array.shape, array.dtype.type)
    copy[...] = array
    return copy


def _address(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _fill(weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Append zeros to weights [S] up to `count`."""
    filled = _aligned_empty((count,), np.float32)
    filled[: len(weights)] = weights
    filled[len(weights) :] = 0
    return filled


def _repeat_last(locations: NDArray[Any], count: int) -> NDArray[Any]:
    """Fill [N, S, ...] up to [N, count, ...] with copies of the last location; unchanged where it has as many."""
    missing = count - locations.shape[1]
    return np.concatenate([locations, np.repeat(locations[:, -1:], missing, axis=1)], axis=1) if missing else locations
