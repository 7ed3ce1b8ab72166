"""The compiled kernel gives what numpy's products give, which take its place where it cannot be built."""

from ctypes import CDLL
from typing import cast

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


@pytest.fixture(scope="module")
def kernel() -> CDLL:
    library = load_kernel()
    if library is None:
        pytest.skip("no C compiler, or a CPU without AVX2")
    return library


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


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 70), st.integers(1, 70), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 2**31)
)
def test_kernel_and_products_agree_for_floats_codes_and_chosen_pairs(
    kernel: CDLL, locations: int, channels: int, queries: int, galleries: int, amx: bool, seed: int
) -> None:
    query = make_maps(queries, locations, channels, seed)
    gallery = make_maps(galleries, locations, channels, seed + 1)
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


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.integers(1, 70), st.booleans(), st.integers(0, 2**31))
def test_two_images_have_one_logit_to_the_bit_whichever_is_the_query(
    kernel: CDLL, locations: int, channels: int, amx: bool, seed: int
) -> None:
    maps = make_maps(5, locations, channels, seed)
    weights = make_head(locations).query
    matcher = KernelMatcher(Head(weights, weights, 0.3), kernel, amx=amx)
    blocks: list[Block] = [maps, quantise(maps)]
    for block in blocks:
        table = matcher.table(matcher.prepare(block), block)
        np.testing.assert_array_equal(table, table.T)


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


@pytest.mark.parametrize("threads", [2, 5])
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


def test_numpys_products_match_where_no_kernel_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qaconv.runtime.matcher.load_kernel", lambda: None)
    assert isinstance(cpu_matcher(make_head(24)), ProductMatcher)


FLOATS = make_maps(3, 20, 16, seed=2)
CODES = quantise(FLOATS)
QUERIES: dict[str, Block] = {"floats": FLOATS, "codes": CODES}
WRONG_GALLERIES: dict[str, tuple[str, Block, str]] = {
    "fewer locations": ("floats", FLOATS[:, :19], r"maps must have shape \[N, 20, C\], got \[3, 19, 16\]"),
    "more locations": (
        "codes",
        quantise(make_maps(3, 21, 16, seed=2)),
        r"must have shape \[N, 20, C\], got \[3, 21, 16\]",
    ),
    "a map": ("floats", FLOATS.reshape(3, 20, 4, 4), r"must have shape \[N, 20, C\], got \[3, 20, 4, 4\]"),
    "fewer channels": ("floats", FLOATS[:, :, :12], "must have the same channels, got 16 floats and 12 floats"),
    "fewer scales": (
        "codes",
        Codes(CODES.codes, CODES.scales[:, :19]),
        r"scales must have shape \[3, 20\], got \[3, 19\]",
    ),
}


@pytest.mark.parametrize("name", WRONG_GALLERIES)
def test_a_gallery_of_another_shape_never_reaches_the_kernel(name: str, kernel: CDLL) -> None:
    queries, gallery, message = WRONG_GALLERIES[name]
    matcher = KernelMatcher(make_head(20), kernel)
    prepared = matcher.prepare(QUERIES[queries])
    with pytest.raises(ValueError, match=message):
        matcher.table(prepared, gallery)
    with pytest.raises(ValueError, match=message):
        matcher.pairs(prepared, gallery, np.array([0]), np.array([0]))


def test_floats_and_codes_are_not_matched_with_each_other_as_integers(kernel: CDLL) -> None:
    matcher = KernelMatcher(make_head(20), kernel)
    prepared = matcher.prepare(FLOATS)
    if kernel.multiplies_int8():
        with pytest.raises(ValueError, match="must have the same channels, got 16 floats and 16 codes"):
            matcher.table(prepared, CODES)
    else:
        np.testing.assert_array_equal(matcher.table(prepared, CODES), matcher.table(prepared, dequantise(CODES)))


@pytest.mark.parametrize(
    ("rows", "columns", "side"), [([0, 3], [0, 0], "query"), ([0, 0], [-1, 0], "gallery"), ([0, 0], [1], "gallery")]
)
def test_an_index_outside_its_block_never_reaches_the_kernel(
    rows: list[int], columns: list[int], side: str, kernel: CDLL
) -> None:
    matcher = KernelMatcher(make_head(20), kernel)
    with pytest.raises(ValueError, match=f"{side}_index must be 2 indices in 0..2"):
        matcher.pairs(matcher.prepare(FLOATS), FLOATS, np.array(rows), np.array(columns))


class Amx:
    """A kernel for a CPU with AMX; it only says so."""

    def has_amx(self) -> int:
        return 1

    def lanes(self) -> int:
        return 16

    def least_locations(self, amx: bool) -> int:
        return 16 if amx else 12

    def multiplies_int8(self) -> int:
        return 1


@pytest.mark.parametrize("locations", [12, 16, 24])
def test_row_averages_are_not_copied_to_fill_the_tiles_of_amx(locations: int) -> None:
    matcher = KernelMatcher(make_head(locations), cast(CDLL, Amx()))
    assert matcher._amx == (locations >= 16)
    maps = make_maps(2, locations, 16, seed=2)
    fitted = matcher._fit(maps)
    assert isinstance(fitted, np.ndarray) and np.shares_memory(fitted, maps)
