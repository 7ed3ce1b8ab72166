"""Maps of mirrored images are moved to the place that they show before they are averaged."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qaconv.config import BackboneConfig
from qaconv.models import build_encoder
from qaconv.models.mirroring import average_mirrored, measure_shift


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_b", "mobilenet_v2", "timm:resnet10t"])
@pytest.mark.parametrize("layer", ["layer2", "layer3", "layer4"])
def test_backbones_with_padded_strides_are_a_location_off(name: str, layer: str) -> None:
    config = BackboneConfig.model_validate(
        {"name": name, "last_layer": layer, "neck_channels": "none", "weights": "none"}
    )
    assert build_encoder(config, flip=True).shift == 1
    assert build_encoder(config, flip=True, pooled=True).shift == 0  # a vector has no place


@pytest.mark.parametrize(
    ("layers", "shift"),
    [
        ([nn.Conv2d(3, 4, 8, stride=8)], 0),  # patches
        ([nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 4, 2, stride=2)], 0),  # as in ConvNeXt
        ([nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 1, stride=2)], 1),
        ([nn.Conv2d(3, 4, 15, stride=8)], -1),  # no padding
    ],
)
@torch.no_grad()
def test_shift_brings_a_mirrored_edge_to_the_location_that_shows_it(layers: list[nn.Module], shift: int) -> None:
    trunk = nn.Sequential(*layers)
    assert measure_shift(trunk, 64, 64) == shift


def unit(maps: Tensor) -> Tensor:
    return F.normalize(maps, dim=1)


@pytest.mark.parametrize(("shift", "partners"), [(0, [0, 1, 2, 3]), (1, [None, 0, 1, 2]), (-1, [1, 2, 3, None])])
def test_each_location_is_averaged_with_its_partner_or_stays(shift: int, partners: list[int | None]) -> None:
    maps, back = (unit(torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(seed))) for seed in (1, 2))
    averaged = average_mirrored(maps, back.flip(-1), shift)
    for location, partner in enumerate(partners):
        expected = maps[..., location] if partner is None else unit(maps[..., location] + back[..., partner])
        torch.testing.assert_close(averaged[..., location], expected)


@torch.no_grad()
def test_maps_of_a_resnet_agree_with_mirrored_ones_after_their_shift_more_than_without() -> None:
    config = BackboneConfig(name="resnet18", last_layer="layer2", neck_channels="none", weights="none")
    encoder = build_encoder(config).eval()
    coarse = torch.rand(8, 3, 12, 6, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(coarse, (96, 48), mode="bicubic")
    maps, back = encoder(images), encoder(images.flip(-1)).flip(-1)
    shifted = (maps[..., 1:] * back[..., :-1]).sum(1).mean()
    assert shifted > (maps * back).sum(1).mean()
