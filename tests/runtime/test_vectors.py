"""Vectors in 8 bits."""

import numpy as np
import pytest

from qaconv.runtime import vectors
from qaconv.runtime.vectors import LONGEST, Vectors, inner_products, quantise_vectors


@pytest.fixture(params=["C", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(vectors, "load_library", lambda *_: None)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("threads", [1, 3])
def test_inner_products_are_those_of_the_quantised_vectors(threads: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((1000, 256)).astype(np.float32) * rng.uniform(0.01, 10, (1000, 1)).astype(np.float32)
    query = rng.standard_normal(256).astype(np.float32)
    quantised = quantise_vectors(values)
    expected = (quantised.codes * quantised.scales[:, None].astype(np.float64)) @ query
    np.testing.assert_allclose(inner_products(query, quantised, threads), expected, atol=2e-3 * np.abs(expected).max())
    assert np.corrcoef(inner_products(query, quantised), values @ query)[0, 1] > 0.999


@pytest.mark.usefixtures("way")
def test_the_largest_sum_does_not_overflow() -> None:
    largest = Vectors(np.full((1, LONGEST), 127, np.int8), np.ones(1, np.float32))
    query = np.full(LONGEST, -3.0, np.float32)
    assert inner_products(query, largest)[0] == pytest.approx(-3.0 * 127 * LONGEST, rel=1e-5)


def test_zeros_stay_zeros_and_a_query_of_another_length_is_refused() -> None:
    zeros = quantise_vectors(np.zeros((2, 4), np.float32))
    assert not inner_products(np.ones(4, np.float32), zeros).any()
    assert not inner_products(np.zeros(4, np.float32), quantise_vectors(np.ones((2, 4), np.float32))).any()
    with pytest.raises(ValueError, match=r"query must have shape \[4\]"):
        inner_products(np.ones(5, np.float32), zeros)
