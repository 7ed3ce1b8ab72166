"""The compiled kernel gives what numpy's products give, which take its place where it cannot be built."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qaconv.runtime.head import Head
from qaconv.runtime.kernel import KernelMatcher, load_kernel
from qaconv.runtime.matcher import Matcher, cpu_matcher
from qaconv.runtime.products import ProductMatcher
from qaconv.runtime.quantise import Block, Codes, dequantise, quantise

needs_kernel = pytest.mark.skipif(load_kernel() is None, reason="no C compiler, or a CPU without AVX2")


def make_head(locations: int) -> Head:
    """Make a head with weights of both signs, different for query and gallery."""
    weights = np.random.default_rng(locations).normal(size=(2, locations)) / locations
    return Head(weights[0].astype(np.float32), weights[1].astype(np.float32), -0.5)


def make_maps(count: int, locations: int, channels: int, seed: int) -> NDArray[np.float32]:
    """Make maps [count, S, C] of unit length over C."""
    maps = np.random.default_rng(seed).normal(size=(count, locations, channels))
    unit: NDArray[np.float32] = (maps / np.linalg.norm(maps, axis=2, keepdims=True)).astype(np.float32)
    return unit


def plain_logits(head: Head, queries: NDArray[np.floating], gallery: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute logits [Q, G] of maps [Q, S, C] and [G, S, C] in float64, from the table of all cosines."""
    table = np.einsum("qsc,gtc->qgst", queries.astype(np.float64), gallery.astype(np.float64))
    logits: NDArray[np.float64] = table.max(axis=3) @ head.query + table.max(axis=2) @ head.gallery + head.bias
    return logits


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 70), st.integers(1, 70), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 2**31)
)
def test_kernel_and_products_agree_for_floats_codes_and_chosen_pairs(
    locations: int, channels: int, queries: int, galleries: int, amx: bool, seed: int
) -> None:
    query = make_maps(queries, locations, channels, seed)
    gallery = make_maps(galleries, locations, channels, seed + 1)
    kernel = load_kernel()
    assert kernel is not None
    head = make_head(locations)
    compiled = KernelMatcher(head, kernel, amx=amx)
    products = ProductMatcher(head)
    rng = np.random.default_rng(seed)
    rows = rng.integers(queries, size=5)
    columns = rng.integers(galleries, size=5)
    blocks: list[tuple[Block, Block]] = [(query, gallery), (quantise(query), quantise(gallery))]
    for one, other in blocks:
        expected = products.table(products.prepare(one), other)
        table = compiled.table(compiled.prepare(one), other)
        np.testing.assert_allclose(table, expected, atol=1e-5, rtol=0)
        pairs = compiled.pairs(compiled.prepare(one), other, rows, columns)
        np.testing.assert_array_equal(pairs, table[rows, columns])
        pairs = products.pairs(products.prepare(one), other, rows, columns)
        np.testing.assert_allclose(pairs, expected[rows, columns], atol=1e-5, rtol=0)
    np.testing.assert_allclose(
        products.table(products.prepare(query), gallery), plain_logits(head, query, gallery), atol=1e-5, rtol=0
    )


@needs_kernel
@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.integers(1, 70), st.booleans(), st.integers(0, 2**31))
def test_two_images_have_one_logit_to_the_bit_whichever_is_the_query(
    locations: int, channels: int, amx: bool, seed: int
) -> None:
    maps = make_maps(5, locations, channels, seed)
    kernel = load_kernel()
    assert kernel is not None
    weights = make_head(locations).query
    matcher = KernelMatcher(Head(weights, weights, 0.3), kernel, amx=amx)
    blocks: list[Block] = [maps, quantise(maps)]
    for block in blocks:
        table = matcher.table(matcher.prepare(block), block)
        np.testing.assert_array_equal(table, table.T)


@needs_kernel
def test_codes_give_the_logits_of_the_maps_they_stand_for() -> None:
    codes = quantise(make_maps(5, 24, 30, seed=0))
    matcher = cpu_matcher(make_head(24))
    expected = matcher.table(matcher.prepare(dequantise(codes)), dequantise(codes))
    np.testing.assert_allclose(matcher.table(matcher.prepare(codes), codes), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", ["kernel", "products"])
def test_float16_maps_have_the_logits_of_the_same_maps_in_float32(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = load_kernel()
    if build == "kernel" and kernel is None:
        pytest.skip("no C compiler, or a CPU without AVX2")
    monkeypatch.setattr("qaconv.runtime.kernel.WIDENED_BYTES", 3 * 4 * 20 * 7)  # three images at a time
    head = make_head(20)
    matcher: Matcher = KernelMatcher(head, kernel) if build == "kernel" and kernel is not None else ProductMatcher(head)
    halves = make_maps(10, 20, 7, seed=1).astype(np.float16)
    floats = halves.astype(np.float32)
    prepared = matcher.prepare(floats[:4])
    expected = matcher.table(prepared, floats)
    np.testing.assert_array_equal(matcher.table(matcher.prepare(halves[:4]), halves), expected)
    rows, columns = np.array([3, 0, 3]), np.array([9, 9, 2])
    np.testing.assert_array_equal(
        matcher.pairs(prepared, halves, rows, columns), matcher.pairs(prepared, floats, rows, columns)
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_logit(threads: int) -> None:
    maps = make_maps(23, 20, 16, seed=2)
    head = make_head(20)
    alone, together = cpu_matcher(head, threads=1), cpu_matcher(head, threads=threads)
    np.testing.assert_array_equal(together.table(together.prepare(maps), maps), alone.table(alone.prepare(maps), maps))


def test_no_queries_and_no_gallery_give_an_empty_table() -> None:
    maps = make_maps(3, 20, 16, seed=2)
    matcher = cpu_matcher(make_head(20))
    for gallery in (maps[:0], maps[:0].astype(np.float16)):
        assert matcher.table(matcher.prepare(maps), gallery).shape == (3, 0)
    assert matcher.table(matcher.prepare(maps[:0]), maps).shape == (0, 3)
    assert isinstance(quantise(maps[:0]), Codes)


@pytest.mark.parametrize("fault", ["no compiler", "no instructions"])
def test_numpys_products_match_where_no_kernel_can_be_built(
    fault: str,
    no_library_loaded: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if fault == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        broken = tmp_path / "kernel.c"
        broken.write_text("#error needs other instructions\n")
        monkeypatch.setattr("qaconv.runtime.kernel.SOURCE", broken)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        matchers = [cpu_matcher(make_head(24)) for _ in range(2)]
    assert [type(matcher) for matcher in matchers] == [ProductMatcher, ProductMatcher]
    assert len(caplog.records) == 1 and "numpy's products" in caplog.text
