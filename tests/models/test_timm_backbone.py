"""timm's transformers and convolutional networks as backbones: tiny random ones, for images that are not square."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import save_file
from torch import Tensor

from qaconv.config import BackboneConfig, ImageConfig
from qaconv.errors import InputError
from qaconv.models import build_encoder
from qaconv.models.checkpoint import Architecture, Network, build_network, load_network, save_network
from qaconv.release.graphs import encoder_graph

timm = pytest.importorskip("timm")
create_model = timm.create_model

TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}
TINY_SWIN = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 2)}
TINY_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}
DINOV2, DINOV3 = "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"
CLIP, SIGLIP = "vit_base_patch16_clip_224", "vit_base_patch16_siglip_224"
SWIN, CONVNEXT = "swin_tiny_patch4_window7_224", "convnext_tiny"
SIZES: dict[str, dict[str, Any]] = {
    DINOV2: TINY_VIT,
    DINOV3: TINY_VIT,
    CLIP: TINY_VIT,
    SIGLIP: TINY_VIT,
    SWIN: TINY_SWIN,
    CONVNEXT: TINY_CONVNEXT,
}
IMAGES = {DINOV2: ImageConfig(height=56, width=28)}  # 4 x 2 patches of 14 pixels
IMAGE = ImageConfig(height=64, width=32)  # 4 x 2 maps at stride 16
# Swin's windows are no larger than a map. DINOv3 computes its positions.
INTERPOLATED = {**{name: {"pos_embed"} for name in (DINOV2, CLIP, SIGLIP)}, SWIN: {"relative_position_bias_table"}}
TRANSFORMERS = (DINOV2, DINOV3, CLIP, SIGLIP)


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm make small models under the names of large ones."""
    monkeypatch.setattr(timm, "create_model", tiny)


def tiny(name: str, **options: Any) -> Any:
    return create_model(name, **{**SIZES.get(name, {}), **options})


def make(name: str, weights: Path | str = "none", image: ImageConfig | None = None, **changes: object) -> Network:
    values = {"name": f"timm:{name}", "last_layer": "layer3", "neck_channels": "none", "weights": str(weights)}
    backbone = BackboneConfig.model_validate(values | changes)
    image = image or IMAGES.get(name, IMAGE)
    network = build_network(Architecture(backbone=backbone, image=image, pooled=False), seed=1)
    network.encoder.eval()
    return network


def timm_model(network: Network) -> Any:
    trunk: Any = network.encoder.trunk
    return trunk.features


def noise(network: Network, count: int = 2) -> Tensor:
    image = network.architecture.image
    return torch.rand(count, 3, image.height, image.width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformers_map_is_its_patches_after_the_final_norm_without_other_tokens(name: str) -> None:
    network = make(name)
    model, images = timm_model(network), noise(network)
    with torch.no_grad():
        tokens = model.forward_features(images)[:, model.num_prefix_tokens :]  # timm's, after the norm
        maps: Tensor = network.encoder.get_submodule("trunk")(images)
    assert maps.shape == (2, 24, 4, 2)
    torch.testing.assert_close(maps, tokens.transpose(1, 2).unflatten(2, (4, 2)))
    torch.testing.assert_close(tokens.mean(dim=2), torch.zeros(2, 8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", [SWIN, CONVNEXT])
def test_a_map_of_stages_has_channels_first_and_the_last_ones_norm(name: str) -> None:
    network = make(name, last_layer="layer4")
    model, images = timm_model(network), noise(network)
    with torch.no_grad():
        expected = model.forward_features(images)  # Swin's has channels last
        maps: Tensor = network.encoder.get_submodule("trunk")(images)
    assert maps.shape[2:] == (2, 1)
    torch.testing.assert_close(maps, expected.permute(0, 3, 1, 2) if name == SWIN else expected)


@pytest.mark.parametrize("name", [SWIN, CONVNEXT])
@pytest.mark.parametrize(("last_layer", "size"), [("layer2", (8, 4)), ("layer3", (4, 2)), ("layer4", (2, 1))])
def test_each_layer_of_stages_has_its_stride(name: str, last_layer: str, size: tuple[int, int]) -> None:
    assert make(name, last_layer=last_layer).encoder(torch.rand(1, 3, 64, 32)).shape[2:] == size


@pytest.mark.parametrize("name", SIZES)
def test_mirrored_maps_of_patches_are_averaged_where_they_are(name: str) -> None:
    backbone = BackboneConfig.model_validate(
        {"name": f"timm:{name}", "last_layer": "layer3", "neck_channels": "none", "weights": "none"}
    )
    assert build_encoder(backbone, IMAGES.get(name, IMAGE), flip=True).shift == 0


@pytest.mark.parametrize("name", SIZES)
def test_every_weight_learns(name: str) -> None:
    network = make(name)
    network.encoder.train()(noise(network))[:, 0].sum().backward()
    assert [name for name, weight in network.encoder.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", SIZES)
def test_the_graph_gives_pytorchs_maps_for_any_number_of_crops(name: str) -> None:
    network = make(name)
    session = InferenceSession(encoder_graph(network))
    assert session.get_outputs()[0].shape[2:] == [4, 2]
    for count in (1, 3):
        crops = (255 * noise(network, count)).byte()
        (maps,) = session.run(None, {"images": crops.permute(0, 2, 3, 1).numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(maps, network.encoder(crops / 255).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", [DINOV2, DINOV3, SWIN])
def test_a_saved_network_is_loaded_for_its_own_size(name: str, tmp_path: Path) -> None:
    network = make(name, neck_channels=8)
    save_network(network, tmp_path / "model", {}, {})
    loaded, _ = load_network(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded.encoder(noise(network)), network.encoder(noise(network)))


def write_whole(name: str, path: Path, **options: Any) -> dict[str, Tensor]:
    """Write random weights of a whole model of its own size, with a classifier, as timm's files are."""
    torch.manual_seed(5)
    weights: dict[str, Tensor] = tiny(name, num_classes=10, **options).state_dict()
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights}, path)
    return weights


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("name", SIZES)
def test_a_file_of_another_image_size_with_a_classifier_fills_the_backbone(
    name: str, suffix: str, tmp_path: Path
) -> None:
    weights = write_whole(name, tmp_path / f"weights.{suffix}")
    state = timm_model(make(name, tmp_path / f"weights.{suffix}")).state_dict()
    assert not any(key.startswith(("head", "attn_pool")) for key in state)
    same = {key for key, value in state.items() if key in weights and torch.equal(value, weights[key])}
    changed = {key for key in state if not key.endswith("num_batches_tracked")} - same
    assert {key.rpartition(".")[2] for key in changed} == INTERPOLATED.get(name, set())


def test_a_position_embedding_is_interpolated_once_from_the_files_grid_to_the_images(tmp_path: Path) -> None:
    weights = write_whole(CLIP, tmp_path / "weights.pt", img_size=160)  # 10 x 10 patches and a class token
    embedding = timm_model(make(CLIP, tmp_path / "weights.pt")).pos_embed
    expected = timm.layers.resample_abs_pos_embed(weights["pos_embed"], (4, 2), (10, 10), num_prefix_tokens=1)
    assert torch.equal(embedding, expected)


def test_a_file_of_dinov2s_authors_fills_the_backbone_by_their_names(tmp_path: Path) -> None:
    weights = write_whole(DINOV2, tmp_path / "timm.pt")
    authors = {name: value for name, value in weights.items() if not name.startswith(("reg_token", "head"))}
    authors["register_tokens"], authors["mask_token"] = weights["reg_token"], torch.zeros(1, 24)
    authors["pos_embed"] = torch.cat([torch.zeros(1, 1, 24), weights["pos_embed"]], dim=1)  # and of the class token
    torch.save(authors, tmp_path / "authors.pth")
    one, other = (timm_model(make(DINOV2, tmp_path / name)).state_dict() for name in ("timm.pt", "authors.pth"))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"epoch": 3}}])
def test_a_file_of_another_kind_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt: must hold a state dict, tensors by name"):
        make(CLIP, tmp_path / "weights.pt")


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights = write_whole(CLIP, path)
    del weights["blocks.1.norm1.weight"]
    save_file({**weights, "blocks.7.norm1.weight": torch.zeros(24)}, path)
    message = r"weights\.safetensors: does not fit .*missing \['blocks\.1\.norm1.*unknown \['blocks\.7\.norm1"
    with pytest.raises(InputError, match=message):
        make(CLIP, path)
    save_file({"image_encoder.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"weights\.safetensors: does not fit the backbone: missing"):
        make(CLIP, path)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        (DINOV2, (256, 128), "multiples of 14 and 14, .*dinov2, got 256 x 128; the nearest are 252 x 126$"),
        (DINOV3, (252, 126), "multiples of 16 and 16, .*dinov3, got 252 x 126; the nearest are 256 x 128$"),
        (SWIN, (66, 30), "multiples of 4 and 4, .*, got 66 x 30; the nearest are 64 x 32$"),
    ],
)
def test_a_size_that_patches_do_not_tile_is_refused_with_the_nearest_that_they_do(
    name: str, image: tuple[int, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(name, image=ImageConfig(height=image[0], width=image[1]))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (DINOV2, {"last_layer": "layer2"}, "last_layer must be layer3 for timm:vit_small_.*, got layer2"),
        (CLIP, {"last_layer": "layer4", "last_stride": 1}, "does not take .*output_stride"),
        ("maxvit_rmlp_pico_rw_256", {"last_layer": "layer4"}, "does not take images of 80 x 48: "),
    ],
)
def test_what_a_backbone_cannot_do_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    image = ImageConfig(height=80, width=48) if name.startswith("maxvit") else None
    with pytest.raises(InputError, match=message):
        make(name, image=image, **changes)
