"""Match torch tensors by the compiled kernel of `qaconv.runtime`."""

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qaconv.matching.quantise import Block, Codes
from qaconv.runtime import quantise as runtime
from qaconv.runtime.head import Head
from qaconv.runtime.kernel import KernelMatcher, Packed, load_kernel

__all__ = ["CompiledMatcher", "load_kernel"]


class CompiledMatcher:
    """Match blocks of tensors; the arguments are those of `KernelMatcher`."""

    def __init__(self, head: Head, kernel: ctypes.CDLL, *, amx: bool = True) -> None:
        self._matcher = KernelMatcher(head, kernel, amx=amx)

    def prepare(self, queries: Block) -> Packed:
        """Pack a block of queries for `table` and `pairs`."""
        return self._matcher.prepare(_arrays(queries))

    def table(self, queries: Packed, gallery: Block) -> Tensor:
        """Return logits [Q, G] of all pairs."""
        return torch.from_numpy(self._matcher.table(queries, _arrays(gallery)))

    def pairs(self, queries: Packed, gallery: Block, query_index: Tensor, gallery_index: Tensor) -> Tensor:
        """Return logits [n] of n pairs, given as int64 [n] into both blocks."""
        indices = query_index.numpy(), gallery_index.numpy()
        return torch.from_numpy(self._matcher.pairs(queries, _arrays(gallery), *indices))


def _arrays(block: Block) -> NDArray[np.floating] | runtime.Codes:
    return runtime.Codes(*(part.numpy() for part in block)) if isinstance(block, Codes) else block.numpy()
