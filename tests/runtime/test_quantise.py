import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.runtime.quantise import dequantise, quantise


def plain_quantise(locations: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Round each location to 127 levels of its largest channel, and find the scale that keeps its length."""
    codes = np.zeros_like(locations)
    scales = np.zeros(locations.shape[:2])
    for place in np.ndindex(locations.shape[:2]):
        step = np.abs(locations[place]).max() / np.float32(127)
        codes[place] = np.round(locations[place] / step)
        scales[place] = np.linalg.norm(locations[place].astype(np.float64)) / np.linalg.norm(codes[place])
    return codes, scales


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(8, 40), st.sampled_from([1.0, 50.0]), st.sampled_from([1, 2]))
def test_codes_are_the_plain_formulas_to_the_bit_and_scales_within_float16(
    seed: int, channels: int, size: float, threads: int
) -> None:
    locations = (size * np.random.default_rng(seed).normal(size=(5, 3, channels))).astype(np.float32)
    codes, scales = plain_quantise(locations)
    quantised = quantise(locations, threads)
    np.testing.assert_array_equal(quantised.codes, codes)
    np.testing.assert_allclose(quantised.scales, scales, rtol=2**-10)
    assert quantised.codes.dtype == np.int8 and quantised.scales.dtype == np.float16


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1e-2, 1.0, 50.0]))
def test_quantising_codes_again_changes_nothing(seed: int, channels: int, size: float) -> None:
    locations = (size * np.random.default_rng(seed).normal(size=(2, 3, channels))).astype(np.float32)
    locations[0, 0] = 0
    once = quantise(locations)
    again = quantise(dequantise(once))
    np.testing.assert_array_equal(once.codes, again.codes)
    np.testing.assert_array_equal(once.scales, again.scales)


def test_quantising_again_moves_no_code_of_a_location_too_small_for_the_smallest_scale() -> None:
    locations = np.full((1, 1, 1), 27.49 * np.finfo(np.float16).tiny, dtype=np.float32)
    once = quantise(locations)
    assert once.codes.item() == quantise(dequantise(once)).codes.item() == 27


def test_a_location_keeps_its_length_in_8_bits() -> None:
    locations = np.random.default_rng(0).normal(size=(50, 6, 64)).astype(np.float32)
    kept = np.linalg.norm(dequantise(quantise(locations)), axis=2) / np.linalg.norm(locations, axis=2)
    np.testing.assert_allclose(kept, 1, atol=2**-11)


@pytest.mark.parametrize("channels", [64, 128])
def test_scales_are_torchs_to_the_bit_where_its_vectors_have_as_many_lanes(channels: int) -> None:
    torch = pytest.importorskip("torch")
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        pytest.skip("torch sums a length in another number of lanes on this CPU")
    locations = torch.randn(200, 6, channels, generator=torch.Generator().manual_seed(0))
    steps = locations.abs().amax(dim=2, keepdim=True) / 127
    codes = (locations / steps).round()
    scales = (locations.norm(dim=2) / codes.norm(dim=2)).half()
    np.testing.assert_array_equal(quantise(locations.numpy()).scales, scales.numpy())
