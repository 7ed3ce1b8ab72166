"""Blocks of feature maps go in; logits come out of a C kernel, which is built when it is first needed.

Q queries, G gallery images, S locations, C channels, P panels of some neighbouring locations of a query.
"""

import ctypes
import logging
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from qaconv.files import replacing_file
from qaconv.matching.quantise import Block, Codes, dequantise
from qaconv.models.head import FoldedHead

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernel.c")
FLAGS = ["-O3", "-march=native", "-shared", "-fPIC"]
VECTOR_BYTES = 64  # of the widest vectors, which scratch memory is aligned to


class Packed(NamedTuple):
    """Queries as kernel.c reads them: panels of neighbouring locations, filled up with copies of the last one."""

    maps: Tensor  # float32 [Q, P, C, lanes], or int8 [Q, P, C / 4, lanes, 4]
    scales: Tensor | None  # of int8: float32 [Q, P * lanes]
    offsets: Tensor | None  # of int8: int32 [Q, P * lanes]


class CompiledMatcher:
    """Matches on the CPU with as many threads as torch has; codes are multiplied as integers where the CPU can.

    Args:
        folded: the head.
        kernel: as `load_kernel` gives it.
    """

    def __init__(self, folded: FoldedHead, kernel: ctypes.CDLL) -> None:
        self._kernel = kernel
        self._lanes: int = kernel.lanes()
        # Maps of fewer locations are filled up with copies of the last one, which change no maximum and weigh nothing.
        self._locations = max(len(folded.query), kernel.least_locations())
        self._panels = -(-self._locations // self._lanes)
        self._gallery_weights, self._query_weights = (
            _pad(weights, self._panels * self._lanes) for weights in (folded.gallery, folded.query)
        )
        self._bias = folded.bias.item()

    def prepare(self, queries: Block) -> Packed:
        """Packs a block of queries for `table` and `pairs`."""
        block = self._fitted(queries)
        maps = block.codes if isinstance(block, Codes) else block
        width = self._panels * self._lanes
        grouped = _repeat_last(maps, width).unflatten(1, (self._panels, self._lanes))
        if not isinstance(block, Codes):
            return Packed(grouped.transpose(2, 3).contiguous(), None, None)
        offsets = -128 * grouped.sum(dim=3, dtype=torch.int32).flatten(1)
        words = grouped.unflatten(3, (-1, 4)).transpose(2, 3)
        return Packed(words.contiguous(), _repeat_last(block.scales.float(), width).contiguous(), offsets)

    def table(self, queries: Packed, gallery: Block) -> Tensor:
        """Logits [Q, G] of all pairs."""
        shape = (len(queries.maps), len(gallery.codes if isinstance(gallery, Codes) else gallery))
        return self._match(queries, gallery, None, None, shape[0] * shape[1]).reshape(shape)

    def pairs(self, queries: Packed, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Logits [n] of n pairs, given as int64 [n] into both blocks."""
        return self._match(queries, gallery, query_index, gallery_index, len(query_index))

    def _match(
        self, queries: Packed, gallery: Block, query_index: Tensor | None, gallery_index: Tensor | None, count: int
    ) -> Tensor:
        block = self._fitted(gallery)
        maps, scales = (block.codes, block.scales.float()) if isinstance(block, Codes) else (block, None)
        int8 = scales is not None
        gallery_side = _Side(*map(_address, (maps, self._gallery_weights, scales, None)))
        query_side = _Side(*map(_address, (queries.maps, self._query_weights, queries.scales, queries.offsets)))
        steps = maps.shape[2] // (4 if int8 else 1)
        logits = torch.empty(count)

        def run(first: int) -> None:
            vectors = self._locations + 2 * self._panels + 1
            scratch = torch.empty(vectors * VECTOR_BYTES + 4 * self._locations * steps, dtype=torch.uint8)
            self._kernel.match(
                int8,
                ctypes.byref(gallery_side),
                ctypes.byref(query_side),
                ctypes.c_float(self._bias),
                _address(query_index),
                _address(gallery_index),
                ctypes.c_int64(len(maps)),
                ctypes.c_int64(first),
                ctypes.c_int64(min(first + share, count)),
                self._locations,
                steps,
                ctypes.c_void_p(-(-scratch.data_ptr() // VECTOR_BYTES) * VECTOR_BYTES),
                _address(logits),
            )

        threads = torch.get_num_threads()
        share = max(1, -(-count // (4 * threads)))  # several shares a thread: none waits long for the slowest
        with ThreadPoolExecutor(threads) as pool:  # ctypes lets go of Python's lock
            list(pool.map(run, range(0, count, share)))
        return logits

    def _fitted(self, block: Block) -> Block:
        """The block as the kernel can read it: enough locations, and whole words of four codes."""
        if isinstance(block, Codes) and self._kernel.multiplies_int8():
            codes, scales = (_repeat_last(part, self._locations) for part in block)
            if missing := -codes.shape[2] % 4:  # F.pad copies, even where nothing is missing
                codes = F.pad(codes, (0, missing))
            return Codes(codes.contiguous(), scales.contiguous())
        maps = dequantise(block) if isinstance(block, Codes) else block
        return _repeat_last(maps, self._locations).contiguous()


@cache
def load_kernel() -> ctypes.CDLL | None:
    """kernel.c as a library for this CPU, built where the cache has none; None, and a line in the log, if it cannot be.

    The cache is `qaconv/` in XDG_CACHE_HOME, or in ~/.cache. A library is found again by the source and by what the
    compiler says of itself and of the CPU.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("there is no C compiler (cc, gcc, clang): matching takes torch's tiles, at about half the speed")
        return None
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qaconv"
    try:
        described = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c", os.devnull])
        digest = sha256((described + SOURCE.read_text(encoding="utf-8")).encode()).hexdigest()[:16]
        library = folder / f"kernel-{digest}.so"
        if not library.is_file():
            with replacing_file(library) as beside:
                _run([compiler, *FLAGS, str(SOURCE), "-o", str(beside)])
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        log.warning(
            "the matching kernel cannot be built: %s; matching takes torch's tiles, at about half the speed",
            next((line for line in reason if "error" in line), reason[-1]),
        )
        return None


class _Side(ctypes.Structure):
    """kernel.c's `side`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("maps", "weights", "scales", "offsets")]


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _address(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _pad(weights: Tensor, count: int) -> Tensor:
    return F.pad(weights, (0, count - len(weights))).contiguous()


def _repeat_last(locations: Tensor, count: int) -> Tensor:
    """[N, S, ...] to [N, count, ...] with copies of the last location; unchanged where it has as many."""
    missing = count - locations.shape[1]
    if not missing:
        return locations
    return torch.cat([locations, locations[:, -1:].expand(-1, missing, *locations.shape[2:])], dim=1)
