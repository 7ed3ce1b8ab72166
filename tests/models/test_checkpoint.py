"""A network is loaded with the bits that were saved, or refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, Network, build_network, load_head, load_network, save_network
from qaconv.models.description import read_trained, weights_digest


def architecture(*, pooled: bool = False) -> Architecture:
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, weights="none")
    return Architecture(backbone=backbone, image=ImageConfig(height=32, width=16), pooled=pooled)


@pytest.fixture(scope="module", params=[False, True], ids=["maps", "pooled"])
def network(request: pytest.FixtureRequest) -> Network:
    """Build a network in eval mode whose running statistics a batch has changed."""
    network = build_network(architecture(pooled=request.param), seed=1)
    maps = network.encoder.train()(torch.rand(4, 3, 32, 16, generator=torch.Generator().manual_seed(2)))
    network.head.train()(maps, maps)
    network.encoder.eval()
    network.head.eval()
    return network


def test_network_read_back_gives_the_same_bits(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net", {"data": {"images": 4}}, {"history.csv": "epoch\n1\n"})
    read, trained = load_network(tmp_path / "net")
    images = torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        maps, read_maps = network.encoder(images), read.encoder(images)
        assert torch.equal(maps, read_maps)
        assert torch.equal(network.head(maps, maps), read.head(read_maps, read_maps))
    assert (trained, read.architecture) == ({"data": {"images": 4}}, network.architecture)
    assert (tmp_path / "net" / "history.csv").read_text() == "epoch\n1\n"


def test_head_and_description_read_alone_are_those_of_the_network(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path, {"data": {"images": 4}}, {})
    read, trained = load_network(tmp_path)
    head = load_head(tmp_path, (read.head.channels, read.head.height, read.head.width))
    maps = torch.rand(3, *read.head.folded().map_shape or (), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert torch.equal(head(maps, maps), read.head(maps, maps))
    assert read_trained(tmp_path) == trained


def test_network_of_an_older_version_is_read_without_flip(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path, {}, {})
    description = json.loads((tmp_path / "model.json").read_text())
    del description["architecture"]["flip"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert load_network(tmp_path)[0].architecture == network.architecture


def test_network_with_flip_is_read_back_with_it(tmp_path: Path) -> None:
    network = build_network(architecture().model_copy(update={"flip": True}), seed=1)
    save_network(network, tmp_path, {}, {})
    assert load_network(tmp_path)[0].encoder.shift is not None


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_head_read_alone_is_of_the_networks_variant(variant: Literal["v1", "v2"], tmp_path: Path) -> None:
    save_network(build_network(architecture().model_copy(update={"head": variant}), seed=1), tmp_path, {}, {})
    assert load_head(tmp_path, (8, 4, 2)).variant == variant


def test_head_of_maps_of_another_size_is_refused(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net", {}, {})
    with pytest.raises(InputError, match="net: holds no network that can be read: .*(?s:.*)size mismatch"):
        load_head(tmp_path / "net", (8, 7, 7))


@pytest.mark.parametrize("read", [read_trained, weights_digest])
def test_folder_without_a_network_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="net: holds no network that can be read: .*`dvc repro` writes it"):
        read(tmp_path / "net")


def test_writing_twice_gives_the_same_bytes(network: Network, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_network(network, tmp_path / name, {}, {})
    for file in ("weights.safetensors", "model.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_weights_file_of_training_is_not_needed_to_read_a_network(network: Network, tmp_path: Path) -> None:
    assert isinstance(network.architecture, Architecture)
    backbone = network.architecture.backbone.model_copy(update={"weights": "gone.pth"})
    described = network.architecture.model_copy(update={"backbone": backbone})
    save_network(Network(network.encoder, network.head, described), tmp_path / "net", {}, {})
    read = load_network(tmp_path / "net")[0].architecture
    assert isinstance(read, Architecture) and read.backbone.weights == "gone.pth"


def test_package_that_the_network_needs_is_named_and_the_network_not_called_unreadable(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(network, tmp_path, {}, {})
    text = (tmp_path / "model.json").read_text().replace("resnet18", "timm:resnet10t")
    (tmp_path / "model.json").write_text(text)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="^backbone.name timm:resnet10t: the package timm is not installed: pip"):
        load_network(tmp_path)


def test_seed_decides_the_initial_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    untouched = torch.rand(1)
    torch.manual_seed(5)
    necks = [build_network(architecture(), seed).encoder.get_parameter("neck.weight") for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), untouched)
    assert torch.equal(necks[0], necks[1])
    assert not torch.equal(necks[0], necks[2])


def _without_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def _without_description(folder: Path) -> None:
    (folder / "model.json").unlink()


def _truncated_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _broken_json(folder: Path) -> None:
    (folder / "model.json").write_text("{")


def _json_of_another_kind(folder: Path) -> None:
    (folder / "model.json").write_text("[]")


def _another_architecture(folder: Path) -> None:
    _edit(folder, lambda description: description["architecture"]["backbone"].update(neck_channels=9))


def _unknown_key(folder: Path) -> None:
    _edit(folder, lambda description: description["architecture"].update(colour="green"))


def _without_training(folder: Path) -> None:
    _edit(folder, lambda description: description.pop("trained"))


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    description = json.loads((folder / "model.json").read_text())
    change(description)
    (folder / "model.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "damage",
    [
        _without_weights,
        _without_description,
        _truncated_weights,
        _broken_json,
        _json_of_another_kind,
        _another_architecture,
        _unknown_key,
        _without_training,
    ],
)
def test_broken_folder_is_refused_in_one_message(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / "net"
    save_network(build_network(architecture(), seed=1), folder, {}, {})
    damage(folder)
    with pytest.raises(InputError, match=r"net: holds no network that can be read: .*(?s:.*)`dvc repro` writes it"):
        load_network(folder)


def test_a_training_begins_with_the_weights_of_a_saved_network(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net", {}, {})
    assert isinstance(network.architecture, Architecture)
    started = build_network(begin_with(network.architecture, tmp_path / "net/weights.safetensors"), seed=9)
    save_network(started, tmp_path / "started", {}, {})
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("net", "started")]
    assert files[0] == files[1]


def test_a_training_does_not_begin_with_a_network_of_other_shapes(network: Network, tmp_path: Path) -> None:
    save_network(network, tmp_path / "net", {}, {})
    assert isinstance(network.architecture, Architecture)
    larger = begin_with(network.architecture, tmp_path / "net/weights.safetensors", neck_channels=16)
    with pytest.raises(InputError, match=r"(?s)same image, backbone and head only: .*neck.*: must be \(16.*, got \(8"):
        build_network(larger, seed=9)
    (tmp_path / "net/weights.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be read: must be a .safetensors file"):
        build_network(larger, seed=9)


def begin_with(described: Architecture, path: Path, **changes: Any) -> Architecture:
    backbone = described.backbone.model_copy(update={"weights": str(path), **changes})
    return described.model_copy(update={"backbone": backbone})
