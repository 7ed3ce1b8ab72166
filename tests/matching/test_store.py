"""A store returns what was appended, and rejects files that have changed."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qaconv.errors import InputError
from qaconv.matching import MapStore, score_matrix, search, tiles
from qaconv.runtime.head import Head
from qaconv.runtime.quantise import Codes

SHAPE = (4, 3, 2)


def make_maps(count: int, seed: int) -> NDArray[np.float32]:
    maps = np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)
    unit: NDArray[np.float32] = maps / np.linalg.norm(maps, axis=1, keepdims=True)
    return unit


def fill(folder: Path, dtype: str, sizes: list[int], model: str = "a") -> tuple[MapStore, NDArray[np.float32]]:
    store = MapStore.create(folder, SHAPE, dtype=dtype, model=model)  # type: ignore[arg-type]
    for number, size in enumerate(sizes):
        names = [f"shard {number}/ü\n{image}.jpg" for image in range(size)]
        store.append(make_maps(size, number), names, np.full(size, number), np.arange(size) + 0.5)
    return store, np.concatenate([make_maps(size, number) for number, size in enumerate(sizes)])


@pytest.mark.parametrize(("dtype", "error"), [("float16", 2**-11), ("int8", 0.6 / 127)])
def test_blocks_across_shards_are_the_maps_within_the_types_error(tmp_path: Path, dtype: str, error: float) -> None:
    written, maps = fill(tmp_path, dtype, [3, 1, 4])
    store = MapStore(tmp_path, model="a")
    assert store.shape == written.shape == (8, *SHAPE) and len(store) == 8
    for start in range(8):
        for stop in range(start + 1, 9):
            np.testing.assert_allclose(store.block(start, stop), maps[start:stop], atol=error, rtol=0)


def test_columns_come_back_in_order(tmp_path: Path) -> None:
    fill(tmp_path, "int8", [2, 1])
    store = MapStore(tmp_path)
    assert list(store.ids) == ["shard 0/ü\n0.jpg", "shard 0/ü\n1.jpg", "shard 1/ü\n0.jpg"]
    assert list(store.camids) == [0, 0, 1]
    assert list(store.times) == [0.5, 1.5, 0.5]


def test_an_empty_store_has_empty_columns(tmp_path: Path) -> None:
    store = MapStore.create(tmp_path, SHAPE, model="a")
    assert [len(column) for column in (store.ids, store.camids, store.times)] == [0, 0, 0]
    assert (store.camids.dtype, store.times.dtype) == (np.dtype(np.int64), np.dtype(np.float64))


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


def test_truncated_missing_and_foreign_shards_are_rejected_by_name(tmp_path: Path) -> None:
    fill(tmp_path / "store", "int8", [3, 2])
    fill(tmp_path / "other", "int8", [3, 2], model="b")
    shard = tmp_path / "store" / "000001.safetensors"
    whole = shard.read_bytes()
    for replaced, fault in (
        (whole[:-1], "truncated"),
        (b"", "truncated"),
        ((tmp_path / "other" / shard.name).read_bytes(), "another shape, type or model"),
        ((tmp_path / "store" / "000000.safetensors").read_bytes(), "got 3 images"),
    ):
        shard.write_bytes(replaced)
        with pytest.raises(InputError, match=f"000001.safetensors: .*{fault}"):
            MapStore(tmp_path / "store")
    shard.unlink()
    with pytest.raises(InputError, match=r"000001.safetensors: is missing"):
        MapStore(tmp_path / "store")


def test_a_folder_without_a_store_or_of_another_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"store.json: must be the header of a store of maps"):
        MapStore(tmp_path)
    fill(tmp_path, "float16", [1])
    with pytest.raises(InputError, match=r"store.json: maps must be of model 'b', got 'a'"):
        MapStore(tmp_path, model="b")
    with pytest.raises(InputError, match="must not hold a store of maps already"):
        MapStore.create(tmp_path, SHAPE, model="a")


@pytest.mark.parametrize("fault", ["shape", "nan", "large", "ids", "times"])
def test_maps_and_columns_that_do_not_fit_are_not_appended(tmp_path: Path, fault: str) -> None:
    store, _ = fill(tmp_path, "float16", [1])
    maps = make_maps(2, 1)
    ids, times = ["a", "b"], [0.0, 1.0]
    if fault == "shape":
        maps = maps.transpose(0, 1, 3, 2)
    elif fault == "nan":
        maps[1, 0, 0, 0] = np.nan
    elif fault == "large":
        maps[1, 0, 0, 0] = 1e5
    elif fault == "ids":
        ids.pop()
    else:
        times.pop()
    messages = {
        "shape": r"maps must have shape \[n, 4, 3, 2\]",
        "nan": "maps must be finite, got NaN or infinity in image 1, 'b'",
        "large": "maps of a store of float16 must be in -65504..65504, got 100000",
        "ids": "must have length 2",
        "times": "must have length 2",
    }
    with pytest.raises(ValueError, match=messages[fault]):
        store.append(maps, ids, [0, 0], times)
    assert len(store) == 1


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_stored_maps_that_are_no_longer_finite_are_refused_by_the_first_image(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaconv.matching.store.first_not_finite", lambda locations: None)  # as if by another program
    store, _ = fill(tmp_path, dtype, [2])
    maps = make_maps(2, 3)
    maps[1] = np.nan
    store.append(maps, ["a", "b"], [0, 0], [0, 0])
    weights = np.ones(6, dtype=np.float32)
    with pytest.raises(ValueError, match="gallery_maps must be finite, got NaN or infinity in image 3"):
        score_matrix(maps[:1], store, Head(weights, weights, 0.0), engine="int8")


def test_chosen_maps_come_in_the_requested_order(tmp_path: Path) -> None:
    store, _ = fill(tmp_path, "int8", [3, 1, 4])
    images = np.array([7, 0, 3, 3, 5])
    np.testing.assert_array_equal(store.take(images), store.block(0, 8)[images])


def test_a_search_holds_no_more_of_a_store_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, maps = fill(tmp_path, "int8", [5, 5, 5])
    asked = []

    def recorded(start: int, stop: int) -> Codes:
        asked.append(stop - start)
        return MapStore.codes(store, start, stop)

    monkeypatch.setattr(store, "codes", recorded)
    monkeypatch.setattr(tiles, "BLOCK_BYTES", 2 * 4 * maps[0].size)
    weights = np.ones(6, dtype=np.float32)
    search(maps[:3], store, Head(weights, weights, 0.0), top_k=2, engine="int8")
    assert sum(asked) == 2 * 15 and max(asked) == 2  # two blocks of queries, each over the whole store


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_what_a_reader_writes_to_a_block_does_not_reach_the_store(tmp_path: Path, dtype: str) -> None:
    store, _ = fill(tmp_path, dtype, [3])
    before = store.block(0, 3).copy()
    store.block(0, 3)[:] = 0
    np.testing.assert_array_equal(MapStore(tmp_path).block(0, 3), before)
