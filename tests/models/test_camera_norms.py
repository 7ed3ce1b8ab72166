"""Each camera's crops are encoded as by a network whose batch norms have the statistics of that camera."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.models.camera_norms import estimate_norms, list_norms
from qaconv.models.checkpoint import Architecture, Network, build_network, load_network, save_network
from qaconv.models.encoder import Encoder
from qaconv.runtime.encoder import NO_CAMERA

HEIGHT, WIDTH = 32, 16
DARK, RED, UNKNOWN = 3, 7, 5  # cameras
CASTS = {DARK: torch.tensor([0.4, 0.4, 0.4]), RED: torch.tensor([1.0, 0.6, 0.5])}


def make_network(**changed: object) -> Network:
    """Build a network whose batch norms have the statistics of some images."""
    backbone = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels=8, neck="batchnorm", weights="none")
    values = {"backbone": backbone, "image": ImageConfig(height=HEIGHT, width=WIDTH), "pooled": False, **changed}
    network = build_network(Architecture.model_validate(values), seed=1)
    for _ in range(20):
        network.encoder.train()(people(32))
    network.encoder.eval()
    return network


def people(count: int, seed: int | None = None) -> Tensor:
    """Draw images [N, 3, H, W] of stripes of any colours."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    stripes = torch.rand(count, 3, 4, 1, generator=generator)
    return F.interpolate(stripes, (HEIGHT, WIDTH)) + 0.05 * torch.rand(count, 3, HEIGHT, WIDTH, generator=generator)


def seen_by(camid: int, images: Tensor) -> Tensor:
    return images * CASTS[camid][:, None, None]


def know_cameras(network: Network) -> None:
    assert isinstance(network.encoder, Encoder)
    batches = {camid: [seen_by(camid, people(64, seed=camid)) for _ in range(2)] for camid in (RED, DARK)}
    network.encoder.normalise_cameras(estimate_norms(network.encoder, batches))


@pytest.mark.parametrize("changed", [{}, {"pooled": True}, {"flip": True}])
def test_a_camera_has_the_norms_that_its_images_give(changed: dict[str, object]) -> None:
    torch.manual_seed(0)
    network, other = make_network(**changed), None
    with torch.no_grad():
        other = make_network(**changed)
        other.encoder.load_state_dict(network.encoder.state_dict())
        for norm in list_norms(other.encoder):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for _ in range(2):
            other.encoder(seen_by(RED, people(64, seed=RED)))
        other.encoder.eval()
        know_cameras(network)
        images = seen_by(RED, people(6, seed=9))
        own = network.encoder(images, torch.full((6,), RED))
        torch.testing.assert_close(own, other.encoder(images), atol=2e-5, rtol=0)
        assert (own - network.encoder(images)).abs().max() > 0.05


@torch.no_grad()
def test_a_camera_without_norms_and_no_camera_have_those_of_the_network() -> None:
    torch.manual_seed(0)
    network = make_network()
    images = people(4, seed=2)
    before = network.encoder(images)
    know_cameras(network)
    torch.testing.assert_close(network.encoder(images), before)
    for camid in (UNKNOWN, NO_CAMERA):
        torch.testing.assert_close(network.encoder(images, torch.full((4,), camid)), before, atol=1e-6, rtol=0)


@torch.no_grad()
def test_crops_of_several_cameras_in_a_batch_are_encoded_as_each_alone() -> None:
    torch.manual_seed(0)
    network = make_network(flip=True)
    know_cameras(network)
    images, camids = people(5, seed=3), torch.tensor([RED, UNKNOWN, DARK, DARK, RED])
    alone = torch.cat([network.encoder(images[row : row + 1], camids[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(network.encoder(images, camids), alone, atol=1e-6, rtol=0)


@torch.no_grad()
def test_one_person_stands_out_more_from_others_on_another_camera() -> None:
    torch.manual_seed(0)
    network = make_network()
    know_cameras(network)
    images = people(16, seed=4)

    def margin(*camids: int) -> Tensor:
        dark, red = (
            network.encoder(seen_by(seen, images), torch.full((16,), camid)).flatten(1)
            for seen, camid in zip((DARK, RED), camids, strict=True)
        )
        cosines = F.normalize(dark) @ F.normalize(red).T
        same = cosines.diagonal().mean()
        return same - cosines[~torch.eye(16, dtype=torch.bool)].mean()

    assert margin(DARK, RED) > 1.5 * margin(UNKNOWN, UNKNOWN)


@torch.no_grad()
def test_a_saved_network_knows_its_cameras_when_it_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = make_network()
    know_cameras(network)
    described = network.architecture.model_copy(update={"cameras": 2})
    network = Network(network.encoder, network.head, described)
    save_network(network, tmp_path / "network", {}, {})
    loaded, _ = load_network(tmp_path / "network")
    assert loaded.knows_cameras
    images, camids = people(4, seed=5), torch.tensor([RED, DARK, UNKNOWN, RED])
    torch.testing.assert_close(loaded.encoder(images, camids), network.encoder(images, camids))
