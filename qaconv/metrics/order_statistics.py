"""Find numbers by their rank among more numbers than fit into memory."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGIT = 16  # bits that are counted at a time

Keys = NDArray[np.unsignedinteger]


def find_highest(blocks: Callable[[], Iterable[NDArray[Any]]], ranks: Sequence[int]) -> list[float]:
    """Return the numbers before which so many others come in descending order.

    Numbers are counted by their first bits, then by the next bits among those with the same first ones. So memory does
    not grow with their count.

    Args:
        blocks: function that returns all numbers in blocks of one type; it is called once for each 16 bits of the type.
        ranks: for each result the count of numbers before it, less than that of all numbers.

    Example:
        >>> import numpy as np
        >>> find_highest(lambda: [np.array([0.5, -2.0]), np.array([3.0])], [0, 2])
        [3.0, -2.0]
    """
    left = list(ranks)
    prefixes = [0] * len(left)
    for digit in count():
        counts = {prefix: np.zeros(1 << DIGIT, dtype=np.int64) for prefix in prefixes}
        dtype: Any = np.float16
        for block in blocks():
            keys = _as_keys(block)
            dtype = np.dtype(f"f{keys.itemsize}")
            shift = 8 * keys.itemsize - DIGIT * (digit + 1)
            for prefix, of_prefix in counts.items():
                same = keys[keys >> (shift + DIGIT) == prefix] if digit else keys
                of_prefix += np.bincount((same >> shift & (1 << DIGIT) - 1).astype(np.int64), minlength=1 << DIGIT)
        for number, prefix in enumerate(prefixes):
            at_least = counts[prefix][::-1].cumsum()[::-1]
            last = int(np.flatnonzero(at_least > left[number])[-1])
            left[number] -= int(at_least[last] - counts[prefix][last])
            prefixes[number] = prefix << DIGIT | last
        if shift == 0:
            return [_as_number(prefix, dtype) for prefix in prefixes]
    raise AssertionError


def _as_keys(numbers: NDArray[Any]) -> Keys:
    """Return unsigned integers of the same order: a float's bits are so where its sign is turned, or all of them."""
    floats = numbers if numbers.dtype.kind == "f" else numbers.astype(np.float64)
    bits: Keys = np.ascontiguousarray(floats).view(f"u{floats.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _as_number(key: int, dtype: Any) -> float:
    """Return the number of a key."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    sign = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ sign if key & sign else ~key & (2 * sign - 1)
    return float(np.array([bits], unsigned).view(dtype)[0])
