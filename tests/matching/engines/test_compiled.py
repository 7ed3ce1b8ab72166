"""The compiled kernel gives what torch's tiles give, and where it cannot be built they take its place."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from qaconv.matching.engines.compiled import CompiledMatcher, load_kernel
from qaconv.matching.engines.torch_tiles import TorchMatcher
from qaconv.matching.quantise import dequantise, quantise
from qaconv.matching.tiles import choose_matcher
from qaconv.models.head import FoldedHead, QAConv

CPU = torch.device("cpu")
needs_kernel = pytest.mark.skipif(load_kernel() is None, reason="no C compiler, or a CPU without AVX2")


def make_head(locations: int) -> FoldedHead:
    """Weights of both signs, different for query and gallery."""
    weights = torch.randn(2, locations, generator=torch.Generator().manual_seed(locations)) / locations
    return FoldedHead(weights[0], weights[1], torch.tensor(-0.5))


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 70), st.integers(1, 70), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.integers(0, 2**31)
)
def test_kernel_and_tiles_agree_for_floats_codes_and_chosen_pairs(
    locations, channels, queries, galleries, amx, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, gallery = (
        F.normalize(torch.randn(count, locations, channels, generator=generator), dim=2)
        for count in (queries, galleries)
    )
    kernel = load_kernel()
    assert kernel is not None
    ours = CompiledMatcher(make_head(locations), kernel, amx=amx)
    plain = TorchMatcher(make_head(locations), CPU)
    rows = torch.randint(queries, (5,), generator=generator)
    columns = torch.randint(galleries, (5,), generator=generator)
    for one, other in ((query, gallery), (quantise(query), quantise(gallery))):
        expected = plain.table(plain.prepare(one), other)
        table = ours.table(ours.prepare(one), other)
        torch.testing.assert_close(table, expected, atol=1e-5, rtol=0)
        assert torch.equal(ours.pairs(ours.prepare(one), other, rows, columns), table[rows, columns])
        found = plain.pairs(plain.prepare(one), other, rows, columns)
        torch.testing.assert_close(found, expected[rows, columns], atol=1e-5, rtol=0)


@needs_kernel
@settings(max_examples=40, deadline=None)
@given(st.integers(2, 70), st.integers(1, 70), st.booleans(), st.integers(0, 2**31))
def test_two_images_have_one_logit_to_the_bit_whichever_asks(locations, channels, amx, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = F.normalize(torch.randn(5, locations, channels, generator=generator), dim=2)
    kernel, weights = load_kernel(), make_head(locations).query
    assert kernel is not None
    matcher = CompiledMatcher(FoldedHead(weights, weights, torch.tensor(0.3)), kernel, amx=amx)
    for block in (maps, quantise(maps)):
        table = matcher.table(matcher.prepare(block), block)
        assert torch.equal(table, table.T)


@needs_kernel
def test_codes_give_the_logits_of_the_maps_they_stand_for() -> None:
    maps = F.normalize(torch.randn(5, 24, 30, generator=torch.Generator().manual_seed(0)), dim=2)
    kernel, codes = load_kernel(), quantise(maps)
    assert kernel is not None
    matcher = CompiledMatcher(make_head(24), kernel)
    expected = matcher.table(matcher.prepare(dequantise(codes)), dequantise(codes))
    torch.testing.assert_close(matcher.table(matcher.prepare(codes), codes), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fault", ["no compiler", "no instructions"])
def test_torchs_tiles_match_where_no_kernel_can_be_built(
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
        monkeypatch.setattr("qaconv.matching.engines.compiled.SOURCE", broken)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        matchers = [choose_matcher(QAConv(8, 6, 4), None) for _ in range(2)]
    assert [type(matcher) for matcher in matchers] == [TorchMatcher, TorchMatcher]
    assert len(caplog.records) == 1 and "torch's tiles" in caplog.text
