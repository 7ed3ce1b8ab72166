from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaconv.metrics.order_statistics import find_highest


@settings(max_examples=20)
@given(
    st.lists(st.floats(-10, 10, width=16) | st.sampled_from([0.0, 1.5]), min_size=1, max_size=30),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(1, 30),
)
def test_a_number_is_found_by_its_rank_in_any_blocks(numbers: list[float], dtype: Any, size: int) -> None:
    array = np.array(numbers, dtype) / dtype(3)
    ranks = [0, len(array) // 2, len(array) - 1]
    blocks = [array[start : start + size] for start in range(0, len(array), size)]
    falling = np.sort(array)[::-1]
    assert find_highest(lambda: blocks, ranks) == [float(falling[rank]) for rank in ranks]


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_whole_numbers_are_found_too(dtype: Any) -> None:
    numbers = np.array([1, 0, 1, 0], dtype)
    assert find_highest(lambda: [numbers], [1, 2]) == [1.0, 0.0]
