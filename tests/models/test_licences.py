"""A network says under which licence its first weights are; one that forbids finding people is refused by name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, build_network, save_network
from qaconv.models.licences import UNKNOWN, weights_licence


def backbone(name: str = "resnet18", weights: str = "mine.pth", licence: str | None = None) -> BackboneConfig:
    values = {"name": name, "last_layer": "layer3", "neck_channels": 8, "weights": weights}
    return BackboneConfig.model_validate({**values, "weights_licence": licence})


def test_a_file_has_the_licence_that_is_stated_or_an_unknown_one() -> None:
    assert weights_licence(backbone(licence="CC BY-NC 4.0")) == "CC BY-NC 4.0"
    assert weights_licence(backbone()) == UNKNOWN


def test_weights_that_are_downloaded_have_the_licence_that_is_known_of_them_and_no_weights_have_none() -> None:
    assert weights_licence(backbone(weights="none")) is None
    assert "BSD-3-Clause" in str(weights_licence(backbone(weights="imagenet")))
    pytest.importorskip("timm")
    assert weights_licence(backbone("timm:vit_small_patch14_dinov2", "imagenet")) == "apache-2.0"
    assert weights_licence(backbone("timm:vit_small_patch16_dinov3", "imagenet")) == "dinov3-license"


def test_a_network_takes_its_licence_into_the_trainings_that_begin_with_it(tmp_path: Path) -> None:
    described = backbone(weights="none").model_copy(update={"weights_licence": "apache-2.0"})
    image = ImageConfig(height=32, width=16)
    network = build_network(Architecture(backbone=described, image=image, pooled=False), seed=1)
    save_network(network, tmp_path / "model", {}, {})
    file = str(tmp_path / "model" / "weights.safetensors")
    assert weights_licence(backbone(weights=file)) == "apache-2.0"
    assert weights_licence(backbone(weights=file, licence="mit")) == "mit"


@pytest.mark.parametrize(
    ("name", "weights", "licence", "message"),
    [
        ("resnet18", "mine.pth", "Sapiens2 License", "got Sapiens2 License: the Sapiens2 License forbids surveillance"),
        ("timm:vit_base_patch16_sapiens2", "a.safetensors", "mit", "backbone.name .* got timm:vit_base_patch16_sapi"),
        ("timm:regnety_320.seer", "imagenet", None, "the SEER License Agreement forbids"),
        ("resnet18", "mine.pth", " ", "must be a licence's name"),
    ],
)
def test_a_licence_that_forbids_finding_people_is_refused_by_its_name(
    name: str, weights: str, licence: str | None, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        backbone(name, weights, licence)


def test_a_licence_that_timm_names_is_refused_too() -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=r"backbone\.weights must be .*, got seer-license"):
        weights_licence(backbone("timm:regnety_2560", "imagenet"))
    assert weights_licence(backbone("timm:regnety_2560", str(Path("mine.safetensors")))) == UNKNOWN
