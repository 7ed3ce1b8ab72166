"""Crops become the same maps whatever encodes them, and however they are cut into batches."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.data.loading import Crops, Encode, encode_all, encode_batches, in_torch
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.release.encoding import fastest

CPU = torch.device("cpu")
SIZE = ImageConfig(height=32, width=24)


def make_network(*, pooled: bool) -> Network:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    return build_network(Architecture(backbone=backbone, image=SIZE, pooled=pooled), seed=1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Seven files of noise in squares, no two alike."""
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8)).resize((48, 96), 0).save(path)
    return paths


@pytest.mark.parametrize("pooled", [False, True])
def test_onnx_runtime_and_pytorch_make_the_same_maps(pooled: bool, paths: list[Path]) -> None:
    network = make_network(pooled=pooled)
    network.encoder.train()  # whoever encodes puts it in eval mode
    onnx, torch_ = (
        encode_all(encode, paths, SIZE, batch_size=3)
        for encode in (fastest(network, CPU), in_torch(network.encoder, CPU))
    )
    assert onnx.dtype == torch.float32 and onnx.is_contiguous()
    torch.testing.assert_close(onnx, torch_, rtol=0, atol=1e-5)
    assert (onnx[0] - onnx[1]).abs().max() > 0.01


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 3), (7, 1), (100, 2)])
def test_maps_come_in_the_order_of_the_files_however_they_are_cut(
    batch_size: int, workers: int, paths: list[Path]
) -> None:
    encode = fastest(make_network(pooled=False), CPU)
    crops = Crops(paths, SIZE)
    one_by_one = list(encode.each(crops[row][None] for row in range(len(paths))))
    batches = list(encode_batches(encode, paths, SIZE, batch_size=batch_size, workers=workers, progress=False))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    torch.testing.assert_close(torch.cat(batches), torch.cat(one_by_one), rtol=0, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_file_that_is_damaged_since_it_was_prepared_is_named(at_once: int, paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    with pytest.raises(InputError, match=r"2\.png: 100 bytes are not a whole image; legal is"):
        encode_all(Encode(torch.Tensor.float, at_once), paths, SIZE, batch_size=2)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_thread_is_left_when_somebody_stops_half_way(at_once: int, paths: list[Path]) -> None:
    before = threading.active_count()
    batches = encode_batches(Encode(torch.Tensor.float, at_once), paths, SIZE, batch_size=1, progress=False)
    assert next(batches).shape == (1, 3, SIZE.height, SIZE.width)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_maps_keep_their_order_though_a_later_batch_is_done_first() -> None:
    later_done = threading.Event()

    def call(images: torch.Tensor) -> torch.Tensor:
        if images[0] == 0:
            assert later_done.wait(10), "batches are not encoded side by side"
        else:
            later_done.set()
        return images

    found = list(Encode(call, at_once=2).each(torch.arange(5).split(1)))
    assert torch.cat(found).tolist() == [0, 1, 2, 3, 4]
