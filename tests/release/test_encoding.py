"""Crops give the same maps with every encoder and every batch size."""

import threading
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.data.loading import Batch, Crops, Encode, encode_all, encode_batches, in_torch
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, Network, build_network
from qaconv.release.encoding import fastest
from qaconv.release.graphs import encoder_graph
from qaconv.runtime.crops import read_crop

CPU = torch.device("cpu")
SIZE = ImageConfig(height=32, width=24)


def make_network(*, pooled: bool) -> Network:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    return build_network(Architecture(backbone=backbone, image=SIZE, pooled=pooled), seed=1)


@pytest.fixture(scope="module")
def fast() -> dict[bool, tuple[Network, Encode]]:
    """Build a network without and with pooling, and its fastest encoder, whose export takes seconds."""
    networks = {pooled: make_network(pooled=pooled) for pooled in (False, True)}
    for network in networks.values():
        network.encoder.train()  # the encoding functions put it in eval mode
    return {pooled: (network, fastest(network, encoder_graph(network), CPU)) for pooled, network in networks.items()}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Seven different files of noise in squares."""
    rng = np.random.default_rng(3)
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8)).resize((48, 96), 0).save(path)
    return paths


def as_floats(batch: Batch) -> torch.Tensor:
    return batch.images.float()


@pytest.mark.parametrize("pooled", [False, True])
def test_onnx_runtime_and_pytorch_make_the_same_maps(
    pooled: bool, fast: dict[bool, tuple[Network, Encode]], paths: list[Path]
) -> None:
    network, encode = fast[pooled]
    network.encoder.train()
    onnx, torch_ = (encode_all(each, paths, SIZE, batch_size=3) for each in (encode, in_torch(network.encoder, CPU)))
    assert onnx.dtype == torch.float32 and onnx.is_contiguous()
    torch.testing.assert_close(onnx, torch_, rtol=0, atol=1e-5)
    assert (onnx[0] - onnx[1]).abs().max() > 0.01


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 3), (7, 1), (100, 2)])
def test_maps_come_in_the_order_of_the_files_at_every_batch_size(
    batch_size: int, workers: int, fast: dict[bool, tuple[Network, Encode]], paths: list[Path]
) -> None:
    _, encode = fast[False]
    crops = Crops(paths, SIZE)
    one_by_one = list(encode.each(Batch(crops[row][None]) for row in range(len(paths))))
    batches = list(encode_batches(encode, paths, SIZE, batch_size=batch_size, workers=workers, progress=False))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    torch.testing.assert_close(torch.cat(batches), torch.cat(one_by_one), rtol=0, atol=1e-5)


def test_training_and_the_service_see_a_turned_photograph_alike(tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[274] = 6
    squares = np.random.default_rng(3).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    Image.fromarray(squares).save(tmp_path / "turned.png", exif=orientation)
    Image.fromarray(np.rot90(squares, -1)).save(tmp_path / "upright.png")
    turned, upright = Crops([tmp_path / "turned.png", tmp_path / "upright.png"], SIZE).batch(range(2))
    assert torch.equal(turned, upright)
    crop = read_crop((tmp_path / "turned.png").read_bytes(), SIZE.height, SIZE.width)
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), crop)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_file_that_is_damaged_since_it_was_prepared_is_named(at_once: int, paths: list[Path]) -> None:
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    with pytest.raises(InputError, match=r"2\.png: cannot be decoded as PNG: ends early; it must be"):
        encode_all(Encode(as_floats, at_once), paths, SIZE, batch_size=2)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_thread_is_left_when_encoding_is_stopped_half_way(at_once: int, paths: list[Path]) -> None:
    before = threading.active_count()
    batches = encode_batches(Encode(as_floats, at_once), paths, SIZE, batch_size=1, progress=False)
    assert next(batches).shape == (1, 3, SIZE.height, SIZE.width)
    assert threading.active_count() > before
    assert isinstance(batches, Generator)
    batches.close()
    assert threading.active_count() == before


def test_maps_keep_their_order_though_a_later_batch_is_done_first() -> None:
    later_done = threading.Event()

    def call(batch: Batch) -> torch.Tensor:
        if batch.images[0] == 0:
            assert later_done.wait(10), "batches are not encoded in parallel"
        else:
            later_done.set()
        return batch.images

    encoded = list(Encode(call, at_once=2).each(map(Batch, torch.arange(5).unsqueeze(1).unbind())))
    assert torch.cat(encoded).tolist() == [0, 1, 2, 3, 4]
