"""Choose how to match feature maps on this CPU."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.kernel import KernelMatcher, load_kernel
from qaconv.runtime.products import ProductMatcher
from qaconv.runtime.quantise import Block


class Matcher(Protocol):
    """One way to match two blocks of maps; Q queries, G gallery images, n pairs."""

    def prepare(self, queries: Block) -> Any:
        """Return a block of queries in the form that `table` and `pairs` take."""

    def table(self, queries: Any, gallery: Block) -> NDArray[np.float32]:
        """Return logits [Q, G] of all pairs."""

    def pairs(
        self, queries: Any, gallery: Block, query_index: NDArray[np.int64], gallery_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [n] of n pairs, given as indices [n] into both blocks."""


def cpu_matcher(head: Head, threads: int | None = None) -> Matcher:
    """Return the fastest matcher of this CPU.

    Args:
        head: the folded head.
        threads: number of threads of each call. Default: `default_threads()` at the time of the call.
    """
    if len(head.query) == 1:  # one product, without maxima
        return ProductMatcher(head)
    kernel = load_kernel()
    return ProductMatcher(head) if kernel is None else KernelMatcher(head, kernel, threads=threads)
