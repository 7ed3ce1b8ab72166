"""Keep vectors in 8 bits, and take inner products of a query with all of them, in C where there is a compiler.

N vectors of length M.
"""

import ctypes
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qaconv.runtime.cbuild import load_library
from qaconv.runtime.threads import share_out

SOURCE = Path(__file__).with_name("estimate.c")
LONGEST = 512  # length of a vector, so that a sum fits into 32 bits
VECTOR_LEVELS, QUERY_LEVELS = 127, 32767
AT_ONCE = 4096  # vectors that are widened at a time without a compiler


class Vectors(NamedTuple):
    """Vectors as integers: an element is its code times the vector's scale."""

    codes: NDArray[np.int8]  # [N, M]
    scales: NDArray[np.float32]  # [N]


def quantise_vectors(values: NDArray[np.float32]) -> Vectors:
    """Quantise vectors [N, M]: the largest element of each becomes 127."""
    scales = (np.abs(values).max(axis=1, initial=0) / np.float32(VECTOR_LEVELS)).astype(np.float32)
    steps = np.where(scales > 0, scales, np.float32(1))
    return Vectors(np.rint(values / steps[:, None]).astype(np.int8), scales)


def inner_products(query: NDArray[np.float32], vectors: Vectors, threads: int | None = None) -> NDArray[np.float32]:
    """Return the inner products [N] of a query [M], rounded to 16 bits, with all vectors.

    Args:
        query: finite values.
        vectors: of the query's length, at most LONGEST; their arrays must be contiguous.
        threads: number of threads. Default: `default_threads()`.

    Example:
        >>> vectors = quantise_vectors(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
        >>> inner_products(np.array([1.0, 1.0], dtype=np.float32), vectors).round(1).tolist()
        [7.0, 0.0]
    """
    codes, scales = vectors
    count, length = codes.shape
    if query.shape != (length,) or length > LONGEST:
        raise ValueError(f"query must have shape [{length}] and at most {LONGEST} elements, got {list(query.shape)}")
    products = np.empty(count, dtype=np.float32)
    step = float(np.abs(query).max(initial=0)) / QUERY_LEVELS or 1.0
    levels = np.ascontiguousarray(np.rint(query / step), dtype=np.int16)
    library = load_library(SOURCE, "searches rank by numpy, which is slower")

    def run(first: int, last: int) -> None:
        if library is None:
            for start in range(first, last, AT_ONCE):
                part = slice(start, min(start + AT_ONCE, last))
                products[part] = (codes[part].astype(np.float32) @ levels.astype(np.float32)) * scales[part]
            return
        ends = (ctypes.c_int64(value) for value in (first, last, length))
        arrays = (ctypes.c_void_p(array.ctypes.data) for array in (codes, scales, levels))
        library.estimate(*arrays, *ends, ctypes.c_void_p(products.ctypes.data))

    share_out(run, count, threads)
    products *= np.float32(step)
    return products
