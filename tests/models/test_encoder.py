"""The encoder's maps have unit length and the size that it states; weights that do not fit are errors."""

import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from qaconv.config import BackboneConfig
from qaconv.errors import InputError
from qaconv.models import build_encoder
from qaconv.models.ibn import InstanceNormedBlock
from qaconv.plugins import register


def backbone(weights: str = "none", **changed: object) -> BackboneConfig:
    values = {"name": "resnet18", "last_layer": "layer2", "neck_channels": 8, "weights": weights, **changed}
    return BackboneConfig.model_validate(values)


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    """Make weights that no initialisation gives, under torchvision's names."""
    weights = torchvision.models.resnet18(weights=None).state_dict()
    return {name: torch.full_like(value, 0.25) for name, value in weights.items()}


def test_imagenet_weights_that_changed_in_the_cache_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resnet18: dict[str, Tensor]
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save({**resnet18}, tmp_path / "checkpoints/resnet18-f37072fd.pth")
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth: must have a sha256 that begins with f37072fd"):
        build_encoder(backbone("imagenet"))


@pytest.mark.parametrize("name", ["resnet18", "resnet18_ibn_a", "resnet50_ibn_b", "mobilenet_v2", "timm:resnet10t"])
@pytest.mark.parametrize(("last_layer", "stride"), [("layer2", 8), ("layer3", 16), ("layer4", 32)])
def test_each_layer_has_its_stride_at_any_input_size(name: str, last_layer: str, stride: int) -> None:
    encoder = build_encoder(backbone(name=name, last_layer=last_layer)).eval()
    for height, width in ((64, 32), (65, 33)):
        expected = (-(-height // stride), -(-width // stride))
        assert encoder.map_size(height, width) == expected
        assert encoder(torch.rand(1, 3, height, width)).shape == (1, 8, *expected)


@pytest.mark.parametrize(
    ("name", "last_layer", "channels"),
    [("resnet18", "layer3", 256), ("resnet50_ibn_a", "layer2", 512), ("mobilenet_v2", "layer4", 1280)],
)
def test_without_a_neck_the_channels_are_the_backbones(name: str, last_layer: str, channels: int) -> None:
    encoder = build_encoder(backbone(name=name, last_layer=last_layer, neck_channels="none")).eval()
    assert (encoder.channels, encoder(torch.rand(1, 3, 32, 16)).shape[1]) == (channels, channels)


def test_neck_has_a_bias_or_a_norm_and_never_both() -> None:
    assert set(build_encoder(backbone()).neck.state_dict()) == {"weight", "bias"}
    names = set(build_encoder(backbone(neck="batchnorm")).neck.state_dict())
    assert {"0.weight", "1.weight", "1.running_mean"} < names
    assert "0.bias" not in names


def test_pooled_map_is_one_location() -> None:
    encoder = build_encoder(backbone(), pooled=True).eval()
    assert encoder(torch.rand(2, 3, 32, 16)).shape == (2, 8, *encoder.map_size(32, 16)) == (2, 8, 1, 1)


def test_pooled_encoder_gives_the_feature_before_the_neck_and_that_after_it_whose_direction_is_the_map() -> None:
    encoder = build_encoder(backbone(neck_channels="none"), pooled=True).eval()
    encoder.pool.get_submodule("1").running_mean = torch.rand(128)
    images = torch.rand(2, 3, 32, 16)
    features, centred = encoder(images, vectors=True).unbind(dim=1)
    torch.testing.assert_close(features, encoder.trunk(images).mean(dim=(2, 3)))
    torch.testing.assert_close(F.normalize(centred, dim=1), encoder(images).flatten(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "mobilenet_v2", "timm:resnet10t"])
def test_last_stride_of_1_doubles_the_map_and_keeps_the_names_of_the_weights(name: str) -> None:
    whole = {"name": name, "last_layer": "layer4", "neck_channels": "none"}
    coarse, fine = (build_encoder(backbone(**whole, last_stride=stride)) for stride in (2, 1))
    assert (coarse.map_size(64, 32), fine.map_size(64, 32)) == ((2, 1), (4, 2))
    assert {name: value.shape for name, value in fine.state_dict().items()} == {
        name: value.shape for name, value in coarse.state_dict().items()
    }


def test_last_stride_of_1_is_refused_where_it_would_change_nothing(no_registered_kinds: None) -> None:
    with pytest.raises(ValidationError, match="last_stride must be 2 for last_layer layer3, got 1, which needs layer4"):
        backbone(last_layer="layer3", last_stride=1)
    register("backbone", "patches")(lambda config, image: nn.Conv2d(3, 8, kernel_size=32, stride=32))
    with pytest.raises(InputError, match=r"backbone\.last_stride must be 2 for patches, .* got 1"):
        build_encoder(backbone(name="patches", last_layer="layer4", last_stride=1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_ibn_b_removes_an_images_own_contrast_and_brightness_from_the_stem(name: str) -> None:
    trunk = build_encoder(backbone(name=f"{name}_ibn_b")).trunk.eval()
    assert isinstance(trunk, nn.Sequential)
    images = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(trunk[:2](images), trunk[:2](images * 0.5), atol=0.05, rtol=0)  # except for its epsilon


def test_ibn_a_normalises_half_of_the_channels_by_the_image_and_half_by_the_batch() -> None:
    norm = build_encoder(backbone(name="resnet18_ibn_a")).trunk.eval().get_submodule("layer1.0.bn1")
    maps = torch.rand(2, 64, 5, 3)
    first, second = norm(maps).split(32, dim=1)
    torch.testing.assert_close(first.mean(dim=(2, 3)), torch.zeros(2, 32), atol=1e-5, rtol=0)
    torch.testing.assert_close(second, maps[:, 32:] / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18_ibn_a", {"layer1.0.bn1.IN.weight", "layer3.1.bn1.BN.running_var", "layer4.0.bn1.weight"}),
        ("resnet50_ibn_b", {"bn1.weight", "layer1.2.IN.weight", "layer2.3.IN.bias", "layer1.0.bn1.running_mean"}),
    ],
)
def test_ibn_has_the_names_of_its_authors_weights(name: str, keys: set[str]) -> None:
    names = set(build_encoder(backbone(name=name, last_layer="layer4")).trunk.state_dict())
    assert keys < names
    assert not {"layer4.0.bn1.IN.weight", "layer1.0.IN.weight", "layer3.5.IN.weight"} & names


def test_instance_normed_block_is_the_residual_block_with_a_norm_before_its_last_relu() -> None:
    block = torchvision.models.resnet50().layer1[0].eval()
    maps, before_relu = torch.randn(2, 64, 6, 4), []
    block.relu.register_forward_pre_hook(lambda _, inputs: before_relu.append(inputs[0].clone()))
    block(maps)
    expected = F.relu(F.instance_norm(before_relu[-1], eps=1e-5))
    torch.testing.assert_close(InstanceNormedBlock(block).eval()(maps), expected)


def test_imagenet_weights_of_ibn_are_refused() -> None:
    with pytest.raises(InputError, match="must be none or a file of IBN-Net for resnet50_ibn_b, got imagenet"):
        build_encoder(backbone("imagenet", name="resnet50_ibn_b"))


@pytest.mark.parametrize(
    ("name", "weights", "named"),
    [
        ("timm:resnet10x", "none", "Unknown model"),
        ("timm:vit_tiny_patch16_224", "none", "last_layer must be layer3 for timm:vit_tiny_patch16_224, got layer2"),
    ],
)
def test_unfit_timm_backbone_is_refused(name: str, weights: str, named: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=named):
        build_encoder(backbone(weights, name=name))


def test_timm_backbone_is_filled_from_a_file_of_its_own_names_or_refused(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole = {name: torch.full_like(value, 0.25) for name, value in timm.create_model("resnet10t").state_dict().items()}
    save_file(whole, tmp_path / "weights.safetensors")
    encoder = build_encoder(backbone(str(tmp_path / "weights.safetensors"), name="timm:resnet10t"))
    assert all((value == 0.25).all() for value in encoder.trunk.parameters())
    del whole["layer1.0.conv1.weight"]
    save_file(whole, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"layer1\.0\.conv1\.weight"):
        build_encoder(backbone(str(tmp_path / "weights.safetensors"), name="timm:resnet10t"))


@pytest.mark.parametrize("pooled", [True, False])
def test_maps_have_unit_length_over_channels(pooled: bool) -> None:
    maps = build_encoder(backbone(), pooled=pooled).eval()(torch.rand(2, 3, 32, 16))
    torch.testing.assert_close(maps.norm(dim=1), torch.ones_like(maps[:, 0]))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_local_weights_fill_the_trunk(tmp_path: Path, resnet18: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(resnet18, path)
    encoder = build_encoder(backbone(str(path)))
    assert encoder.trunk.state_dict()
    assert all(torch.equal(value, resnet18[name]) for name, value in encoder.trunk.state_dict().items())


def test_mobilenet_is_filled_from_the_names_of_torchvision_and_cut_at_its_block(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    whole = {
        name: torch.full_like(value, 0.25) for name, value in torchvision.models.mobilenet_v2().state_dict().items()
    }
    save_file(whole, path)
    trunk = build_encoder(backbone(str(path), name="mobilenet_v2", last_layer="layer3")).trunk
    assert len(list(trunk.children())) == 14
    assert all(torch.equal(value, whole[f"features.{name}"]) for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(
    ("normalise", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("clip", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ("inception", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_normalised_images_are_what_the_weights_were_trained_on(
    normalise: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    images, seen = torch.rand(2, 3, 32, 16), []
    encoder = build_encoder(backbone(normalise=normalise))
    encoder.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder.eval()(images)
    torch.testing.assert_close(seen[0], v2.Normalize(mean, std)(images))


def test_local_weights_need_no_classifier_and_no_batch_counters(tmp_path: Path, resnet18: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    needed = {name: value for name, value in resnet18.items() if not name.startswith("fc.") and "batches" not in name}
    save_file(needed, path)
    assert (build_encoder(backbone(str(path))).trunk.get_parameter("conv1.weight") == 0.25).all()


def _without_a_layer(weights: dict[str, Tensor]) -> None:
    del weights["layer1.0.conv1.weight"]


def _with_an_unknown_key(weights: dict[str, Tensor]) -> None:
    weights["module.conv1.weight"] = torch.zeros(1)


def _misshapen(weights: dict[str, Tensor]) -> None:
    weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without_a_layer, r"missing \['layer1\.0\.conv1\.weight'\] \(1\)"),
        (_with_an_unknown_key, r"unknown \['module\.conv1\.weight'\] \(1\)"),
        (_misshapen, r"conv1\.weight: must be \(64, 3, 7, 7\), got \(64, 1, 7, 7\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_key(
    tmp_path: Path, resnet18: dict[str, Tensor], change: Callable[[dict[str, Tensor]], None], named: str
) -> None:
    path, weights = tmp_path / "weights.safetensors", dict(resnet18)
    change(weights)
    save_file(weights, path)
    with pytest.raises(InputError, match=rf"weights\.safetensors: does not fit the backbone.*{named}"):
        build_encoder(backbone(str(path)))


class Intruder:
    """Create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickled_object_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({"conv1.weight": Intruder(trace)}, path)
    with pytest.raises(InputError, match=r"weights\.pth: cannot be read: must be"):
        build_encoder(backbone(str(path)))
    assert not trace.exists()
    with path.open("wb") as file:
        pickle.dump(Intruder(trace), file, protocol=2)
    with pytest.raises(InputError, match=r"weights\.pth: cannot be read: must be"):
        build_encoder(backbone(str(path)))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        build_encoder(backbone(str(tmp_path / name)))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}])
def test_pth_of_another_kind_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights\.pth: must hold a state dict, tensors by name, got (list|dict)"):
        build_encoder(backbone(str(tmp_path / "weights.pth")))


def test_missing_weights_are_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be none, imagenet or an existing .* file, got .*absent\.pth"):
        build_encoder(backbone(str(tmp_path / "absent.pth")))


def test_imagenet_weights_that_cannot_be_fetched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"imagenet cannot be downloaded: .*no route to host"):
        build_encoder(backbone("imagenet"))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_flip_averages_the_vectors_of_an_image_and_of_its_mirror_image(images: Tensor) -> None:
    encoder = build_encoder(backbone(), pooled=True, flip=True).eval()
    vectors = encoder(images)
    encoder.shift = None
    straight, mirrored = encoder(images), encoder(images.flip(-1))
    torch.testing.assert_close(vectors, F.normalize((straight + mirrored) / 2, dim=1))
    assert not torch.allclose(vectors, straight, atol=1e-3)


@pytest.mark.parametrize("pooled", [False, True])
@torch.no_grad()
def test_with_flip_a_mirrored_image_has_the_mirrored_map_inside_the_edges(pooled: bool, images: Tensor) -> None:
    encoder = build_encoder(backbone(), pooled=pooled, flip=True).eval()
    shift = encoder.shift
    assert shift is not None
    maps, mirrored = encoder(images), encoder(images.flip(-1)).flip(-1)
    torch.testing.assert_close(mirrored[..., : maps.shape[-1] - shift], maps[..., shift:])


@torch.no_grad()
def test_flip_leaves_training_alone(images: Tensor) -> None:
    encoder = build_encoder(backbone(), flip=True).train()
    flipped = encoder(images)
    encoder.shift = None
    assert torch.equal(flipped, encoder(images))


@torch.no_grad()
def test_without_flip_maps_are_those_of_backbone_and_neck_to_the_bit(images: Tensor) -> None:
    encoder = build_encoder(backbone()).eval()
    assert torch.equal(encoder(images), F.normalize(encoder.neck(encoder.trunk(images)), dim=1))
