"""Checkpoints of the authors become networks with the same scores, and one that does not fit is refused by key."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from typer.testing import CliRunner

from qaconv.cli import app
from qaconv.config import ImageConfig
from qaconv.errors import InputError
from qaconv.models.checkpoint import Architecture, load_network
from qaconv.models.ibn import to_ibn_a, to_ibn_b
from qaconv.models.official import load_official

IMAGE = ImageConfig(height=64, width=32)  # of 4 x 2 locations at layer3
LOCATIONS = 8
Checkpoint = dict[str, dict[str, Tensor]]


def checkpoint(release: str, name: str = "resnet18") -> Checkpoint:
    """Make a release's content: a ResNet, a neck, and the loss with the head in it; no value is an initial one."""
    name, _, ibn = name.partition("_ibn_")
    resnet = torchvision.models.get_model(name)
    if ibn:
        (to_ibn_a if ibn == "a" else to_ibn_b)(resnet)
    first = release != "v2.1"
    parts = {"base": resnet, "neck_conv": nn.Conv2d(256 if name == "resnet18" else 1024, 16, 3, bias=not first)}
    if first:
        parts["neck_bn"] = nn.BatchNorm2d(16)
    head = nn.ModuleDict({"bn": nn.BatchNorm1d(1), "logit_bn": nn.BatchNorm1d(1)})
    head["fc"] = nn.Linear(LOCATIONS * (1 if release == "v2.1" else 2), 1)
    for module in (*parts.values(), head):
        for value in module.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    criterion = {("" if release < "v1.2" else "matcher.") + key: value for key, value in head.state_dict().items()}
    if release < "v2":
        criterion["class_memory"] = torch.zeros(5, 16, 4, 2)
    if release in ("v1.1", "v1.2"):
        criterion["valid_class"] = torch.zeros(5)
    model = {f"{part}.{key}": value for part, module in parts.items() for key, value in module.state_dict().items()}
    return {"model": model, "criterion": criterion}


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("release", "name", "neck", "head"),
    [
        ("v1.0", "resnet18", "batchnorm", "v1"),
        ("v1.1", "resnet18_ibn_b", "batchnorm", "v1"),
        ("v1.2", "resnet18_ibn_a", "batchnorm", "v1"),
        ("v2.0", "resnet18", "batchnorm", "v1"),
        ("v2.1", "resnet50_ibn_b", "bias", "v2"),
    ],
)
def test_each_release_is_recognised(tmp_path: Path, release: str, name: str, neck: str, head: str) -> None:
    network, recognised = load_official(write(tmp_path / "checkpoint.pth.tar", checkpoint(release, name)), IMAGE)
    architecture = network.architecture
    assert isinstance(architecture, Architecture) and recognised.startswith(release)
    assert (architecture.backbone.name, architecture.backbone.neck) == (name, neck)
    assert (architecture.backbone.last_layer, architecture.head) == ("layer3", head)


@pytest.mark.parametrize("release", ["v1.0", "v2.1"])
def test_network_scores_as_the_tensors_of_the_file_say(tmp_path: Path, release: str) -> None:
    file = checkpoint(release)
    network, _ = load_official(write(tmp_path / "checkpoint.pth.tar", file), IMAGE)
    images = torch.rand(3, 3, IMAGE.height, IMAGE.width)
    resnet = torchvision.models.resnet18()
    base = {key.removeprefix("base."): value for key, value in file["model"].items() if key.startswith("base.")}
    resnet.load_state_dict(base)
    trunk = nn.Sequential(*list(resnet.eval().children())[:7])
    maps = nn.functional.conv2d(
        trunk(images), file["model"]["neck_conv.weight"], file["model"].get("neck_conv.bias"), padding=1
    )
    if release == "v1.0":
        norm = {key.removeprefix("neck_bn."): value for key, value in file["model"].items() if "neck_bn" in key}
        maps = nn.functional.batch_norm(maps, norm["running_mean"], norm["running_var"], norm["weight"], norm["bias"])
    maps = nn.functional.normalize(maps)
    torch.testing.assert_close(network.encoder(images), maps)
    torch.testing.assert_close(network.head(maps, maps.flip(0)), official_logits(file["criterion"], maps, maps.flip(0)))


def official_logits(criterion: dict[str, Tensor], queries: Tensor, galleries: Tensor) -> Tensor:
    values = {key.removeprefix("matcher."): value for key, value in criterion.items()}

    def norm(value: Tensor, name: str) -> Tensor:
        scale = values[f"{name}.weight"] / (values[f"{name}.running_var"] + 1e-5).sqrt()
        return (value - values[f"{name}.running_mean"]) * scale + values[f"{name}.bias"]

    table = torch.einsum("qcs,gct->qgst", queries.flatten(2), galleries.flatten(2))
    best = norm(torch.cat([table.amax(dim=2), table.amax(dim=3)], dim=2), "bn")  # the gallery's locations first
    weight, bias = values["fc.weight"][0], values["fc.bias"]
    raw = best @ weight + bias if len(weight) == 2 * LOCATIONS else best @ weight.repeat(2) + 2 * bias
    return norm(raw, "logit_bn")


def test_command_writes_a_network_that_is_read_back(tmp_path: Path) -> None:
    file, folder = write(tmp_path / "checkpoint.pth.tar", checkpoint("v2.0")), tmp_path / "net"
    sizes = ["--height", str(IMAGE.height), "--width", str(IMAGE.width)]
    result = CliRunner().invoke(app, ["import-checkpoint", str(file), "--output", str(folder), *sizes])
    assert (result.exit_code, "release v2.0, resnet18" in result.output) == (0, True)
    images, expected = torch.rand(2, 3, 64, 32), load_official(file, IMAGE)[0]
    read, trained = load_network(folder)
    assert torch.equal(read.encoder(images), expected.encoder(images))
    assert trained["data"] == {"official_checkpoint": "checkpoint.pth.tar", "release": "v2.0"}


def _without_a_layer(content: Checkpoint) -> None:
    del content["model"]["base.layer1.0.conv1.weight"]


def _with_an_unknown_key(content: Checkpoint) -> None:
    content["criterion"]["matcher.gate.weight"] = torch.zeros(1)


def _without_a_neck(content: Checkpoint) -> None:
    del content["model"]["neck_conv.weight"]


def _of_another_size(content: Checkpoint) -> None:
    content["criterion"]["matcher.fc.weight"] = torch.zeros(1, 192)


def _without_a_head(content: Checkpoint) -> None:
    del content["criterion"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without_a_layer, r"model: missing \['base\.layer1\.0\.conv1\.weight'\]"),
        (_with_an_unknown_key, r"criterion: .*unknown \['gate\.weight'\]"),
        (_without_a_neck, "neck_conv.weight is missing"),
        (_of_another_size, r"fc\.weight must have 8 .* got 192: images of 64 x 32 have maps of 4 x 2"),
        (_without_a_head, r"with model and criterion, got \['model'\]"),
    ],
)
def test_file_that_does_not_fit_is_refused_by_key(
    tmp_path: Path, change: Callable[[Checkpoint], None], named: str
) -> None:
    content = checkpoint("v2.1")
    change(content)
    with pytest.raises(InputError, match=rf"checkpoint\.pth\.tar: .*{named}"):
        load_official(write(tmp_path / "checkpoint.pth.tar", content), IMAGE)


def test_neck_and_head_of_different_releases_are_refused(tmp_path: Path) -> None:
    mixed = {"model": checkpoint("v2.1")["model"], "criterion": checkpoint("v2.0")["criterion"]}
    with pytest.raises(InputError, match="no release has a bias neck with a v1 head"):
        load_official(write(tmp_path / "checkpoint.pth.tar", mixed), IMAGE)


def test_other_objects_in_the_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing but tensors, numbers and names"):
        load_official(write(tmp_path / "checkpoint.pth.tar", {"model": Path("x"), "criterion": {}}), IMAGE)
