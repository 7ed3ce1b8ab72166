"""A store gives back what was appended, and refuses what is no longer what was appended."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from qaconv.errors import InputError
from qaconv.matching import MapStore, search, tiles
from qaconv.matching.quantise import Codes, dequantise, quantise
from qaconv.models import QAConv

SHAPE = (4, 3, 2)


def make_maps(count: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed)), dim=1)


def fill(folder: Path, dtype: str, sizes: list[int], model: str = "a") -> tuple[MapStore, Tensor]:
    store = MapStore.create(folder, SHAPE, dtype=dtype, model=model)  # type: ignore[arg-type]
    for number, size in enumerate(sizes):
        names = [f"shard {number}/ü\n{image}.jpg" for image in range(size)]
        store.append(make_maps(size, number), names, np.full(size, number), np.arange(size) + 0.5)
    return store, torch.cat([make_maps(size, number) for number, size in enumerate(sizes)])


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("int8", 0.6 / 127)])
def test_blocks_across_shards_are_the_maps_within_the_types_error(tmp_path: Path, dtype: str, error: float) -> None:
    written, maps = fill(tmp_path, dtype, [3, 1, 4])
    store = MapStore(tmp_path, model="a")
    assert store.shape == written.shape == (8, *SHAPE) and len(store) == 8
    for start in range(8):
        for stop in range(start + 1, 9):
            torch.testing.assert_close(store.block(start, stop), maps[start:stop], atol=error, rtol=0)


def test_columns_come_back_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "int8", [2, 1])
    store = MapStore(tmp_path)
    assert list(store.ids) == ["shard 0/ü\n0.jpg", "shard 0/ü\n1.jpg", "shard 1/ü\n0.jpg"]
    assert list(store.camids) == [0, 0, 1]
    assert list(store.times) == [0.5, 1.5, 0.5]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1e-2, 1.0, 50.0]))
def test_quantising_codes_again_changes_nothing(seed: int, channels: int, size: float) -> None:
    locations = size * torch.randn(2, 3, channels, generator=torch.Generator().manual_seed(seed))
    locations[0, 0] = 0
    once = quantise(locations)
    again = quantise(dequantise(once))
    assert torch.equal(once.codes, again.codes) and torch.equal(once.scales, again.scales)


def test_quantising_again_moves_no_code_of_a_location_too_small_for_the_smallest_scale() -> None:
    locations = torch.full((1, 1, 1), 27.49 * torch.finfo(torch.float16).tiny)
    once = quantise(locations)
    assert once.codes.item() == quantise(dequantise(once)).codes.item() == 27


def test_a_location_keeps_its_length_in_8_bits() -> None:
    locations = torch.randn(50, 6, 64, generator=torch.Generator().manual_seed(0))
    kept = dequantise(quantise(locations)).norm(dim=2) / locations.norm(dim=2)
    torch.testing.assert_close(kept, torch.ones_like(kept), atol=2**-11, rtol=0)


def test_the_same_maps_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        fill(tmp_path / name, "int8", [3, 2])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_shard_counts_only_once_the_header_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = fill(tmp_path, "float16", [3])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qaconv.matching.store.write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store.append(make_maps(2, 9), ["a", "b"], [0, 0], [0, 0])
    assert len(MapStore(tmp_path)) == 3
    MapStore(tmp_path).append(make_maps(1, 8), ["c"], [0], [0])
    assert list(MapStore(tmp_path).ids)[3:] == ["c"]


def test_truncated_missing_and_foreign_shards_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "store", "int8", [3, 2])
    fill(tmp_path / "other", "int8", [3, 2], model="b")
    shard = tmp_path / "store" / "000001.safetensors"
    whole = shard.read_bytes()
    for replaced, fault in (
        (whole[:-1], "truncated"),
        (b"", "truncated"),
        ((tmp_path / "other" / shard.name).read_bytes(), "another shape, type or model"),
        ((tmp_path / "store" / "000000.safetensors").read_bytes(), "3 images, not 2"),
    ):
        shard.write_bytes(replaced)
        with pytest.raises(InputError, match=f"000001.safetensors: .*{fault}"):
            MapStore(tmp_path / "store")
    shard.unlink()
    with pytest.raises(InputError, match=r"000001.safetensors: is missing"):
        MapStore(tmp_path / "store")


def test_a_folder_without_a_store_or_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"store.json: is no header of a store of maps"):
        MapStore(tmp_path)
    fill(tmp_path, "float16", [1])
    with pytest.raises(InputError, match=r"store.json: maps are of model 'a'; expected those of 'b'"):
        MapStore(tmp_path, model="b")
    with pytest.raises(InputError, match="holds a store of maps"):
        MapStore.create(tmp_path, SHAPE, model="a")


@pytest.mark.parametrize("fault", ["shape", "nan", "ids", "times"])
def test_what_does_not_fit_is_not_appended(tmp_path: Path, fault: str) -> None:
    store, _ = fill(tmp_path, "float16", [1])
    maps = make_maps(2, 1)
    ids, times = ["a", "b"], [0.0, 1.0]
    if fault == "shape":
        maps = maps.transpose(2, 3)
    elif fault == "nan":
        maps[0, 0, 0, 0] = torch.nan
    elif fault == "ids":
        ids.pop()
    else:
        times.pop()
    with pytest.raises(ValueError, match=r"expected \[n, 4, 3, 2\], all finite|columns of lengths"):
        store.append(maps, ids, [0, 0], times)
    assert len(store) == 1


def test_chosen_maps_come_in_the_order_asked_for(tmp_path: Path) -> None:
    store, _ = fill(tmp_path, "int8", [3, 1, 4])
    images = np.array([7, 0, 3, 3, 5])
    assert torch.equal(store.take(images), store.block(0, 8)[images])


def test_a_search_holds_no_more_of_a_store_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, maps = fill(tmp_path, "int8", [5, 5, 5])
    asked = []

    def recorded(start: int, stop: int) -> Codes:
        asked.append(stop - start)
        return MapStore.codes(store, start, stop)

    monkeypatch.setattr(store, "codes", recorded)
    monkeypatch.setattr(tiles, "BLOCK_BYTES", 2 * 4 * maps[0].numel())
    search(maps[:3], store, QAConv(*SHAPE), top_k=2, engine="int8")
    assert sum(asked) == 2 * 15 and max(asked) == 2  # two blocks of queries, each over the whole store
